//! Arguments that are not arrays: names, thresholds, whole numbers and limits, checked as they come in.

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use subsetscan_core::{AlphaMax, Keep, Named, Ranking, SideLimits, Tail, Ties};

use crate::running::to_py;

/// What is chosen by name: a statistic, a tail, a scope.
pub struct ByName<T>(pub T);

impl<T: Named> FromPyObject<'_, '_> for ByName<T> {
    type Error = PyErr;

    fn extract(name: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let Ok(text) = name.extract::<&str>() else {
            let known = names::<T>().collect::<Vec<_>>().join(", ");
            return Err(wrong_type(&format!("{} must be one of {known}", T::WHAT), &name));
        };
        T::by_name(text).map(ByName).map_err(to_py)
    }
}

/// The names that there are to choose from.
pub fn names<T: Named>() -> impl ExactSizeIterator<Item = &'static str> {
    T::ALL.iter().map(|(name, _)| *name)
}

/// The largest threshold of a scan.
pub struct PyAlphaMax(pub AlphaMax);

impl FromPyObject<'_, '_> for PyAlphaMax {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let number: f64 = value.extract().map_err(|_| wrong_type("alpha_max must be a number", &value))?;
        AlphaMax::try_from(number).map(PyAlphaMax).map_err(to_py)
    }
}

/// What was received is no such thing at all.
fn wrong_type(should_be: &str, value: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(match value.repr() {
        Ok(received) => format!("{should_be}, got {:.60}", received.to_string()),
        Err(_) => should_be.to_owned(),
    })
}

/// A number of things, where an integer may be anything.
fn number(what: &str, value: &Bound<'_, PyAny>) -> PyResult<usize> {
    value.extract().map_err(|error: PyErr| {
        if error.is_instance_of::<PyOverflowError>(value.py()) {
            return PyValueError::new_err(format!("{what} must be from 0 to 2^64 - 1, got {value}"));
        }
        wrong_type(&format!("{what} must be an integer"), value)
    })
}

pub fn n_samples(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    number("n_samples", value)
}

pub fn n_nodes(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    number("n_nodes", value)
}

pub fn seed(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    number("random_state", value).map(|seed| seed as u64)
}

pub fn image_limits(value: &Bound<'_, PyAny>) -> PyResult<SideLimits> {
    side_limits("images", value)
}

pub fn node_limits(value: &Bound<'_, PyAny>) -> PyResult<SideLimits> {
    side_limits("nodes", value)
}

/// The smallest and the largest number of images or nodes in a block; None is no limit.
fn side_limits(what: &'static str, limits: &Bound<'_, PyAny>) -> PyResult<SideLimits> {
    let (min, max): (Option<Bound<'_, PyAny>>, Option<Bound<'_, PyAny>>) = limits.extract()?;
    let limit = |value: Option<Bound<'_, PyAny>>| {
        value.map(|value| number(&format!("the limits of {what}"), &value)).transpose()
    };
    SideLimits::new(what, limit(min)?, limit(max)?).map_err(to_py)
}

/// How values are turned into p-values.
pub fn ranking(tail: &ByName<Tail>, ties: &ByName<Ties>, seed: u64) -> Ranking {
    Ranking { tail: tail.0, ties: ties.0, seed }
}

/// What to keep: everything, or what scans of this tail up to this threshold look at.
pub fn keep(tail: Option<ByName<Tail>>, alpha_max: Option<PyAlphaMax>) -> Keep {
    let Some(ByName(tail)) = tail else { return Keep::Everything };
    Keep::Scans { tail, alpha_max: alpha_max.map_or_else(AlphaMax::default, |alpha_max| alpha_max.0) }
}
