"""Classical classifiers (scikit-learn, XGBoost) on one vector per recording, and gender classifiers made of them.

``estimators`` defines their names and arguments, ``model`` predicts, saves and loads, ``gender_classifier`` predicts
genders of speakers. They are trained by :mod:`serzoo.training.train_classical` and :mod:`serzoo.training.train_gender`.
"""
