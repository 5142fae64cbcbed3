"""The errors of loading a model."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded; the message names the file and what is wrong with it."""


class HubError(ValueError):
    """The Hugging Face hub cannot be reached, or does not give what was asked of it."""
