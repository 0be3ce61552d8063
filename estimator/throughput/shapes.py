"""A form's coefficients seen as one level and a shape, in which models of one engine can be compared.

The level is what shifts log TPS alike at all lengths; the shape is how TPS changes with lengths. For the forms that
are linear in log TPS they are the first coefficient and the others; for the roofline they are -log a, and log(b / a)
and log(c / a), since its costs scale together and are positive.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from estimator.throughput.forms import FORMS, FormName

FloatArray = npt.NDArray[np.float64]


def theta_of(form: FormName, coef: FloatArray) -> FloatArray:
    """Return level and shape, ``(k,)``: the coefficients, or -log a, log(b / a), log(c / a) of a roofline."""
    if form != "roofline":
        return coef
    return np.array([-np.log(coef[0]), np.log(coef[1] / coef[0]), np.log(coef[2] / coef[0])])


def coef_of(form: FormName, theta: FloatArray) -> FloatArray:
    """Return the coefficients of a level and shape: the inverse of ``theta_of``.

    >>> coef = np.array([2e-4, 1e-4, 8e-8])
    >>> bool(np.allclose(coef_of("roofline", theta_of("roofline", coef)), coef, rtol=1e-12, atol=0))
    True
    """
    return theta if form != "roofline" else np.asarray(np.exp(np.array([0.0, theta[1], theta[2]]) - theta[0]))


def jacobian(form: FormName, theta: FloatArray) -> FloatArray:
    """Return the derivative of the coefficients by level and shape, ``(k, k)``."""
    if form != "roofline":
        return np.eye(theta.size)
    a, b, c = coef_of(form, theta)
    return np.array([[-a, 0.0, 0.0], [-b, b, 0.0], [-c, 0.0, c]])


def log_tps(form: FormName, theta: FloatArray, lengths: FloatArray) -> FloatArray:
    """Return log TPS at ``lengths``, (input, output) tokens of shape ``(n, 2)``."""
    return np.asarray(FORMS[form].log_tps(coef_of(form, theta), lengths[:, 0], lengths[:, 1]))


def gradient(form: FormName, theta: FloatArray, lengths: FloatArray) -> FloatArray:
    """Return the derivative of log TPS by level and shape at ``lengths``, shape ``(n, k)``."""
    by_coef = FORMS[form].gradient(coef_of(form, theta), lengths[:, 0], lengths[:, 1])
    return np.asarray(by_coef @ jacobian(form, theta))
