"""Run, resume, store and compare trainings: cross-validations, studies and what is made of them."""
