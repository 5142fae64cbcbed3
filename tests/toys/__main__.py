"""List, run one, or run all of the toy experiments."""

import toys
from lens_utils.experiment import main_of_all

if __name__ == "__main__":
    main_of_all(toys)
