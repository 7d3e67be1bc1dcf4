"""Scikit-learn's and XGBoost's classifiers on one vector per recording, and the classifier of speakers' genders."""
