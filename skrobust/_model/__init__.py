"""The objective: loss, penalty, scale, and the linear model in whitened coordinates."""
