"""Published statements about the figures, evaluated on the numbers behind them."""
