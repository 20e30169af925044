"""The objective (loss, penalty and linear model), the scale of the residuals, and whitening."""
