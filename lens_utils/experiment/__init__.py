"""The way in for a file in `experiments/`: the contract's base classes and the command line.

`contract` says what an experiment is, `discovery` finds it, `run_settings` and `manifest` write down what was run,
`execution` runs or checks it, `report` and `terminal` tell the outcome, `command_line` reads the options.
"""

from lens_utils.experiment.command_line import main, main_of_all
from lens_utils.experiment.contract import ContractError, Experiment, ExperimentConfig, ExperimentFindings

__all__ = ["ContractError", "Experiment", "ExperimentConfig", "ExperimentFindings", "main", "main_of_all"]
