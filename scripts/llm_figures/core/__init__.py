"""What every room uses: errors, logs, files that are whole or not there, Parquet tensors."""
