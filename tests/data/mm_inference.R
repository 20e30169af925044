# Rscript mm_inference.R OUT.json : covariances of lmrob (robustbase) for MM-fits of data sets of R
# with the exact constants of the bisquare and tight tolerances. avar1 is .vcov.avar1 (Croux,
# Dhaene and Hoorelbeke, 2003), w is .vcov.w with Huber's correction and without weights in XᵀX.
suppressMessages(library(robustbase)); options(warn = 1)
c50 <- 1.547644980928226; e95 <- 4.685064948543457
control <- lmrob.control(bb = .5, tuning.chi = c50, tuning.psi = e95, method = "MM", nResample = 3000, best.r.s = 30, k.fast.s = 2,
  k.max = 20000, maxit.scale = 5000, max.it = 5000, refine.tol = 1e-13, rel.tol = 1e-13, scale.tol = 1e-14, fast.s.large.n = Inf)
sets <- list(stackloss = list(stackloss, stack.loss ~ .), delivery = list(delivery, delTime ~ .), hbk = list(hbk, Y ~ .),
  starsCYG = list(starsCYG, log.light ~ log.Te), salinity = list(salinity, Y ~ .), phosphor = list(phosphor, plant ~ .),
  airmay = list(airmay, Y ~ .), cloud = list(cloud, CloudPoint ~ Percentage), toxicity = list(toxicity, toxicity ~ .))
number <- function(x) sprintf("%.15g", x)
vec <- function(x) paste0("[", paste(number(x), collapse = ", "), "]")
mat <- function(m) paste0("[", paste(apply(m, 1, vec), collapse = ", "), "]")
out <- c()
for (name in names(sets)) {
  d <- na.omit(sets[[name]][[1]]); set.seed(1); m <- lmrob(sets[[name]][[2]], d, control = control, x = TRUE)
  # The residuals that lmrob returns for the S-estimate may be those of another candidate.
  m$init.S$residuals <- as.numeric(model.response(m$model) - m$x %*% m$init.S$coefficients)
  avar1 <- robustbase:::.vcov.avar1(m); stopifnot(!is.null(attr(avar1, "eigen")))  # else it was changed
  w <- robustbase:::.vcov.w(m, cov.hubercorr = TRUE, cov.corrfact = "empirical", cov.dfcorr = "varc", cov.xwx = FALSE)
  out <- c(out, sprintf('  "%s": {"coef": %s, "scale": %s, "s_coef": %s,\n    "avar1": %s,\n    "w": %s}', name, vec(coef(m)), number(m$scale),
    vec(m$init.S$coefficients), mat(matrix(avar1, ncol(m$x))), mat(matrix(w, ncol(m$x)))))
}
meta <- sprintf('  "meta": {"R": "%s", "robustbase": "%s"}', R.version.string, packageVersion("robustbase"))
writeLines(paste0("{\n", paste(c(meta, out), collapse = ",\n"), "\n}"), commandArgs(TRUE)[1])
