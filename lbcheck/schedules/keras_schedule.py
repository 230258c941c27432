"""What the `LearningRateSchedule`s of both Kerases have in common."""

from lbcheck.schedules import base


class Adapter:
    """Adapter that `Schedule.as_keras` makes; saved with the model.

    Args:
        schedule: Schedule of this package, or what `get_config` made of it.
    """

    def __init__(self, schedule):
        super().__init__()
        if isinstance(schedule, dict):
            schedule = base.deserialize(schedule)
        base.check_schedule("KerasSchedule", "schedule", schedule)
        self.schedule = schedule

    def __call__(self, step):
        """The rate at `step`, the updates completed before."""
        return self.schedule(step)

    def get_config(self):
        """The schedule by class name and fields."""
        return {"schedule": base.serialize(self.schedule)}
