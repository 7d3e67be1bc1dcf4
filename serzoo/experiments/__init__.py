"""Run, resume, store and compare trainings: cross-validations, studies and the results made from them."""
