//! The three float types at the boundary: what comes in, what is kept, what goes out.

use half::f16;
use numpy::{Element, IntoPyArray, PyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use subsetscan_core::{
    Background, BackgroundBuilder, GroupScan, Keep, MappedFile, NodeSubsets, Scan, Seal, Value, Values,
};

use crate::running::{run, to_py};

/// A borrowed array of node values.
#[derive(FromPyObject)]
pub enum PyValues<'py> {
    #[pyo3(transparent, annotation = "ndarray of float32")]
    F32(PyReadonlyArray2<'py, f32>), // first, because it is nearly always this, and a mismatch takes longer than a scan
    #[pyo3(transparent, annotation = "ndarray of float16")]
    F16(PyReadonlyArray2<'py, f16>),
    #[pyo3(transparent, annotation = "ndarray of float64")]
    F64(PyReadonlyArray2<'py, f64>),
}

impl PyValues<'_> {
    pub fn view(&self) -> Values<'_> {
        match self {
            PyValues::F16(array) => Values::F16(array.as_array()),
            PyValues::F32(array) => Values::F32(array.as_array()),
            PyValues::F64(array) => Values::F64(array.as_array()),
        }
    }
}

pub enum AnyBackground {
    F16(Background<f16>),
    F32(Background<f32>),
    F64(Background<f64>),
}

pub enum AnyBuilder {
    F16(BackgroundBuilder<f16>),
    F32(BackgroundBuilder<f32>),
    F64(BackgroundBuilder<f64>),
}

/// Do the same with whichever background it is.
macro_rules! with_background {
    ($any:expr, $background:ident => $body:expr) => {
        match $any {
            $crate::arrays::AnyBackground::F16($background) => $body,
            $crate::arrays::AnyBackground::F32($background) => $body,
            $crate::arrays::AnyBackground::F64($background) => $body,
        }
    };
}
pub(crate) use with_background;

/// Do the same with whichever builder it is.
macro_rules! with_builder {
    ($any:expr, $builder:ident => $body:expr) => {
        match $any {
            $crate::arrays::AnyBuilder::F16($builder) => $body,
            $crate::arrays::AnyBuilder::F32($builder) => $body,
            $crate::arrays::AnyBuilder::F64($builder) => $body,
        }
    };
}
pub(crate) use with_builder;

impl AnyBackground {
    pub fn new(py: Python<'_>, values: &PyValues<'_>, keep: Keep) -> PyResult<Self> {
        match values {
            PyValues::F16(array) => sort(py, array, keep).map(AnyBackground::F16),
            PyValues::F32(array) => sort(py, array, keep).map(AnyBackground::F32),
            PyValues::F64(array) => sort(py, array, keep).map(AnyBackground::F64),
        }
    }

    pub fn from_columns(py: Python<'_>, columns: &PyValues<'_>, n_samples: usize, keep: Keep) -> PyResult<Self> {
        match columns {
            PyValues::F16(array) => take_up(py, array, n_samples, keep).map(AnyBackground::F16),
            PyValues::F32(array) => take_up(py, array, n_samples, keep).map(AnyBackground::F32),
            PyValues::F64(array) => take_up(py, array, n_samples, keep).map(AnyBackground::F64),
        }
    }

    pub fn mapped(
        file: &MappedFile,
        start: usize,
        shape: (usize, usize),
        dtype: &str,
        keep: Keep,
        seal: Option<Seal>,
    ) -> PyResult<Self> {
        match dtype {
            "float16" => Background::mapped(file, start, shape, keep, seal).map(Self::F16).map_err(to_py),
            "float32" => Background::mapped(file, start, shape, keep, seal).map(Self::F32).map_err(to_py),
            "float64" => Background::mapped(file, start, shape, keep, seal).map(Self::F64).map_err(to_py),
            _ => Err(unknown_type(dtype)),
        }
    }

    pub fn index_shape(n_samples: usize, dtype: &str, keep: Keep) -> PyResult<(usize, usize)> {
        match dtype {
            "float16" => Background::<f16>::index_shape(n_samples, keep).map_err(to_py),
            "float32" => Background::<f32>::index_shape(n_samples, keep).map_err(to_py),
            "float64" => Background::<f64>::index_shape(n_samples, keep).map_err(to_py),
            _ => Err(unknown_type(dtype)),
        }
    }
}

fn unknown_type(dtype: &str) -> PyErr {
    PyTypeError::new_err(format!("node values are float16, float32 or float64, not {dtype}"))
}

fn take_up<V: Value + Element>(
    py: Python<'_>,
    columns: &PyReadonlyArray2<'_, V>,
    n_samples: usize,
    keep: Keep,
) -> PyResult<Background<V>> {
    let view = columns.as_array();
    run(py, |stop| Background::from_columns(n_samples, keep, &view, stop))
}

fn sort<V: Value + Element>(py: Python<'_>, array: &PyReadonlyArray2<'_, V>, keep: Keep) -> PyResult<Background<V>> {
    let view = array.as_array();
    run(py, |stop| Background::new(&view, keep, stop))
}

impl AnyBuilder {
    pub fn new(n_samples: usize, n_nodes: usize, dtype: &str, keep: Keep) -> PyResult<Self> {
        match dtype {
            "float16" => BackgroundBuilder::new(n_samples, n_nodes, keep).map(Self::F16).map_err(to_py),
            "float32" => BackgroundBuilder::new(n_samples, n_nodes, keep).map(Self::F32).map_err(to_py),
            "float64" => BackgroundBuilder::new(n_samples, n_nodes, keep).map(Self::F64).map_err(to_py),
            _ => Err(unknown_type(dtype)),
        }
    }

    pub fn push(&mut self, py: Python<'_>, values: &PyValues<'_>) -> PyResult<()> {
        match (self, values) {
            (AnyBuilder::F16(builder), PyValues::F16(array)) => add(py, builder, array),
            (AnyBuilder::F32(builder), PyValues::F32(array)) => add(py, builder, array),
            (AnyBuilder::F64(builder), PyValues::F64(array)) => add(py, builder, array),
            _ => Err(other_type()),
        }
    }

    pub fn merge(&mut self, py: Python<'_>, other: &Self) -> PyResult<()> {
        match (self, other) {
            (AnyBuilder::F16(builder), AnyBuilder::F16(other)) => run(py, |stop| builder.merge(other, stop)),
            (AnyBuilder::F32(builder), AnyBuilder::F32(other)) => run(py, |stop| builder.merge(other, stop)),
            (AnyBuilder::F64(builder), AnyBuilder::F64(other)) => run(py, |stop| builder.merge(other, stop)),
            _ => Err(other_type()),
        }
    }

    pub fn from_held(
        py: Python<'_>,
        (n_samples, n_pushed): (usize, usize),
        held: &PyValues<'_>,
        keep: Keep,
    ) -> PyResult<Self> {
        match held {
            PyValues::F16(array) => resume(py, (n_samples, n_pushed), array, keep).map(Self::F16),
            PyValues::F32(array) => resume(py, (n_samples, n_pushed), array, keep).map(Self::F32),
            PyValues::F64(array) => resume(py, (n_samples, n_pushed), array, keep).map(Self::F64),
        }
    }

    pub fn held<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        with_builder!(self, builder => {
            run(py, |stop| builder.held(stop)).map(|held| held.into_pyarray(py).into_any())
        })
    }

    pub fn finish(self, py: Python<'_>, early: bool) -> PyResult<AnyBackground> {
        match self {
            AnyBuilder::F16(builder) => complete(py, builder, early).map(AnyBackground::F16),
            AnyBuilder::F32(builder) => complete(py, builder, early).map(AnyBackground::F32),
            AnyBuilder::F64(builder) => complete(py, builder, early).map(AnyBackground::F64),
        }
    }
}

fn complete<V: Value>(py: Python<'_>, builder: BackgroundBuilder<V>, early: bool) -> PyResult<Background<V>> {
    run(py, |stop| if early { builder.finish_early(stop) } else { builder.finish(stop) })
}

fn other_type() -> PyErr {
    PyTypeError::new_err("the values of a batch have another type than the background")
}

fn resume<V: Value + Element>(
    py: Python<'_>,
    (n_samples, n_pushed): (usize, usize),
    held: &PyReadonlyArray2<'_, V>,
    keep: Keep,
) -> PyResult<BackgroundBuilder<V>> {
    let view = held.as_array();
    run(py, |stop| BackgroundBuilder::from_held(n_samples, n_pushed, keep, &view, stop))
}

fn add<V: Value + Element>(
    py: Python<'_>,
    builder: &mut BackgroundBuilder<V>,
    array: &PyReadonlyArray2<'_, V>,
) -> PyResult<()> {
    let view = array.as_array();
    run(py, |stop| builder.push(&view, stop))
}

/// numpy's name of the type of a background's values.
pub fn dtype_of<V: Value>(_: &Background<V>) -> &'static str {
    match size_of::<V>() {
        2 => "float16",
        4 => "float32",
        _ => "float64",
    }
}

/// Scores, alphas, sizes, and the index arrays of the subsets.
pub type PyScan<'py> =
    (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<i64>>, Option<PySubsets<'py>>);

/// Where each image's nodes begin, and the nodes.
pub type PySubsets<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i32>>);

pub fn hand_back_subsets(py: Python<'_>, nodes: NodeSubsets) -> PySubsets<'_> {
    (nodes.indptr.into_pyarray(py), nodes.indices.into_pyarray(py))
}

pub fn hand_back(py: Python<'_>, scan: Scan) -> PyScan<'_> {
    let nodes = scan.nodes.map(|nodes| hand_back_subsets(py, nodes));
    (scan.scores.into_pyarray(py), scan.alphas.into_pyarray(py), scan.sizes.into_pyarray(py), nodes)
}

/// Score, alpha, the block's images and nodes, and the upper bound.
pub type PyGroupScan<'py> = (f64, f64, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>, Option<f64>);

pub fn hand_back_group(py: Python<'_>, found: GroupScan) -> PyGroupScan<'_> {
    (found.score, found.alpha, found.images.into_pyarray(py), found.nodes.into_pyarray(py), found.upper_bound)
}
