"""What is minimised: loss, penalty, scale, and the linear model in its coordinates."""
