"""Tables and figures of the experiments on circuits; what they show is measured in lens_utils/circuits."""
