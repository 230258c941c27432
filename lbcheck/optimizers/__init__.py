"""The only room that knows Keras: selection, adapters, audit, diagnostics."""
