"""What captions, legends and pages call the probe's metrics and controls."""

LABELS = {
    "auc": "AUC",
    "accuracy": "Accuracy",
    "f1": "F1",
    "average_precision": "Average precision",
}
# In the order in which captions and legends name them.
CONTROLS = {
    "embeddings": "embeddings, same token",
    "shuffled_within_group": "labels shuffled within group",
    "group_only": "group alone",
    "shuffled_labels": "labels shuffled",
    "answer_log_probability": "mean log-probability of the answer",
    "exact_answer_log_probability": "mean log-probability of the exact answer",
    "p_true": "p(true)",
}
# Those with fits of their own in every cell; the others are repeated from layer to layer.
FITTED = ("none", "shuffled_labels", "shuffled_within_group")
# These three, where a cell does not beat them, explain it without the model having judged anything.
EXPLANATIONS = {
    "embeddings": "the token itself, as its embedding shows",
    "shuffled_within_group": "the group of the question, as labels shuffled within group show",
    "group_only": "the group of the question alone",
}
