"""Errors of discovery, selection and resolution, one class a failure mode."""

from inferplane.errors import UserError


class PluginError(UserError):
    """Base: something is wrong with a plugin or with the choice of one."""


class NotInstalled(PluginError):
    """No installed plugin offers the platform."""


class ImportFailed(PluginError):
    """The plugin is installed, but its module cannot be imported or raised in a hook."""


class NoDevice(PluginError):
    """The platform is installed and imports, but has no usable device here."""


class ContractMismatch(PluginError):
    """The plugin was built for another version of the contract."""


class DuplicateName(PluginError):
    """Two distributions offer the same name."""


class BadHook(PluginError):
    """A hook is misspelt, has the wrong arguments, or returned the wrong type."""


class KernelFailed(PluginError):
    """A kernel was chosen, but cannot be made, or its first call is wrong."""


class NotAllowed(PluginError):
    """The plugin is installed but not on the allow-list INFERPLANE_PLUGINS."""


class BadDevice(PluginError):
    """The text after --device cannot be understood, or an index is out of range."""


class ResolutionError(PluginError):
    """Some op of the model has no kernel. `problems` lists all of them."""

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems
