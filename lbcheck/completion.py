"""`lbcheck completion`: the completion of these commands in a shell.

    lbcheck completion bash > ~/.local/share/bash-completion/completions/lbcheck
    lbcheck completion zsh > "${fpath[1]}/_lbcheck"
    lbcheck completion fish > ~/.config/fish/completions/lbcheck.fish

Prints a script that completes commands, their flags, the values of flags that
have a list of them, and files. It is made of the commands as they are: print
it again after an update. It starts no Python when a key is pressed.
Exit code 2: no such shell.
"""

import importlib
import shlex
from typing import NamedTuple

from absl import app
from absl import flags

from lbcheck import cli
from lbcheck.search import arm
from lbcheck.support import exit_codes

FLAGS = flags.FlagValues()

_WORDS = {
    "completion": ("bash", "zsh", "fish"),
    "published": ("rows", "diff", "run"),
    "reproductions": ("list", "tables", "verify"),
    "study": ("status",),
}
"""What a command takes as its first word, where that is one of a list."""


class Flag(NamedTuple):
    """A flag as a shell completes it.

    Attributes:
        name: Such as "format"; of a switch also its opposite, "noprogress".
        takes_value: Whether "=" follows.
        values: What may follow; () where these are files or anything.
        help: The first sentence of its help.
    """

    name: str
    takes_value: bool
    values: tuple[str, ...]
    help: str


def main(argv):
    """Prints the script of a shell."""
    if len(argv) != 1 or argv[0] not in _SCRIPTS:
        raise app.UsageError(
            f"expected one of {', '.join(_SCRIPTS)}, received "
            f"{' '.join(argv) or 'none'}."
        )
    print(_SCRIPTS[argv[0]](commands()))
    return exit_codes.FINISHED


def commands() -> dict[str, list[Flag]]:
    """{command: its flags}, of all of them."""
    return {
        name: [*_flags(importlib.import_module(module).FLAGS)]
        for name, (module, _) in cli.COMMANDS.items()
    }


def _flags(values):
    for name in sorted(values):
        flag = values[name]
        said = " ".join((flag.help or "").split()).partition(". ")[0]
        if flag.boolean:
            yield Flag(name, False, (), said)
            yield Flag(f"no{name}", False, (), f"not --{name}")
        else:
            choices = tuple(getattr(flag.parser, "enum_values", ()))
            if name == "arms":
                choices = arm.BUILT_IN
            yield Flag(name, True, choices, said)
    yield Flag("flagfile", True, (), "a file with a flag a line")
    yield Flag("help", False, (), "what the command does, and its flags")


def _bash(found):
    return f"""\
# Completion of lbcheck for bash, by `lbcheck completion bash`.
_lbcheck() {{
  # Not COMP_WORDS, which bash divides at "=".
  local line=${{COMP_LINE:0:COMP_POINT}} word command flags= words= values=
  word=${{line##*[[:space:]]}}
  read -r _ command _ <<< "$line"
  if [[ $line =~ ^[^[:space:]]+[[:space:]]+[^[:space:]]*$ ]]; then
    COMPREPLY=($(compgen -W {_quoted(found)} -- "$word"))
    return
  fi
  case $command in
{_bash_flags(found)}
  esac
  if [[ $word == --*=* ]]; then
    case $command$word in
{_bash_values(found)}
    esac
    word=${{word#*=}}
    if [[ $values ]]; then
      # Of a list, its last entry.
      local before=
      [[ $word == *,* ]] && before=${{word%,*}},
      COMPREPLY=($(compgen -P "$before" -W "$values" -- "${{word##*,}}"))
    else
      COMPREPLY=($(compgen -f -- "$word"))
    fi
  elif [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$word"))
    [[ ${{COMPREPLY[*]}} == *= ]] && compopt -o nospace
  else
    COMPREPLY=($(compgen -W "$words" -- "$word") $(compgen -f -- "$word"))
  fi
}}
complete -o filenames -F _lbcheck lbcheck"""


def _bash_flags(found):
    return "\n".join(
        f"    {name}) flags={_quoted(map(_typed, of))}"
        f" words={_quoted(_WORDS.get(name, ()))} ;;"
        for name, of in found.items()
    )


def _bash_values(found):
    return "\n".join(
        f"      {name}--{flag.name}=*) values={_quoted(flag.values)} ;;"
        for name, of in found.items()
        for flag in of
        if flag.values
    )


def _typed(flag):
    return f"--{flag.name}{'=' if flag.takes_value else ''}"


def _quoted(words):
    return shlex.quote(" ".join(words))


def _zsh(found):
    listed = "\n".join(
        f"    {shlex.quote(f'{name}:{cli.COMMANDS[name][1]}')}"
        for name in found
    )
    cases = "\n".join(
        f"    {name}) _arguments -S {' '.join(_zsh_of(name, of))} ;;"
        for name, of in found.items()
    )
    return f"""\
#compdef lbcheck
# Completion of lbcheck for zsh, by `lbcheck completion zsh`.
_lbcheck() {{
  local -a commands
  commands=(
{listed}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local name=${{words[2]}}
  shift words
  (( CURRENT-- ))
  case $name in
{cases}
  esac
}}
if [[ ${{funcstack[1]}} == _lbcheck ]]; then
  _lbcheck "$@"
else
  compdef _lbcheck lbcheck
fi"""


def _zsh_of(name, found):
    for flag in found:
        said = "".join(c for c in flag.help if c not in "[]:\\")
        text = f"{_typed(flag)}-" if flag.takes_value else _typed(flag)
        action = f"({' '.join(flag.values)})" if flag.values else "_files"
        value = f":{flag.name}:{action}" if flag.takes_value else ""
        yield shlex.quote(f"{text}[{said}]{value}")
    if name in _WORDS:
        yield shlex.quote(f"1:word:({' '.join(_WORDS[name])})")
    yield shlex.quote("*:file:_files")


def _fish(found):
    lines = ["# Completion of lbcheck for fish, by `lbcheck completion fish`."]
    for name, of in found.items():
        said = shlex.quote(cli.COMMANDS[name][1])
        lines.append(
            "complete -c lbcheck -f -n __fish_use_subcommand "
            f"-a {name} -d {said}"
        )
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        for word in _WORDS.get(name, ()):
            lines.append(f"complete -c lbcheck {seen} -a {word}")
        lines += [f"complete -c lbcheck {seen} {_fish_of(flag)}" for flag in of]
    return "\n".join(lines)


def _fish_of(flag):
    value = " -r" if flag.takes_value else ""
    if flag.values:
        value = f" -x -a {_quoted(flag.values)}"
    said = flag.help.replace("\\", "").replace("'", "\\'")
    return f"-l {flag.name}{value} -d '{said}'"


_SCRIPTS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
