"""List the experiments, run one by name, or all: `python -m experiments [NAME | --all] [options]`."""

import experiments
from lens_utils.experiment import main_of_all

if __name__ == "__main__":
    main_of_all(experiments)
