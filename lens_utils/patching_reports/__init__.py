"""Tables and figures of the patching experiments."""
