"""Display names of the probe's metrics and controls, for captions, legends and pages."""

LABELS = {
    "auc": "AUC",
    "accuracy": "Accuracy",
    "f1": "F1",
    "average_precision": "Average precision",
}
# In the order of captions and legends.
CONTROLS = {
    "embeddings": "embeddings, same token",
    "shuffled_within_group": "labels shuffled within group",
    "group_only": "group alone",
    "shuffled_labels": "labels shuffled",
    "answer_log_probability": "mean log-probability of the answer",
    "exact_answer_log_probability": "mean log-probability of the exact answer",
    "p_true": "p(true)",
}
# These are fitted in every cell; the other controls are the same in every layer.
FITTED = ("none", "shuffled_labels", "shuffled_within_group")
# A probe that does not beat one of these needs no judgement of the model to reach its score.
EXPLANATIONS = {
    "embeddings": "the token itself, which its embedding gives away",
    "shuffled_within_group": "the group of the question (labels shuffled within group)",
    "group_only": "the group of the question alone",
}
