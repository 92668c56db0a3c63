//! The classes of the module: a background, and one that is under way.

use std::path::PathBuf;

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray3, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use subsetscan_core::{
    GroupBound, GroupOptions, Keep, MappedFile, Membership, Named, ScanOptions, Scope, Seal, SideLimits, Starts,
    Statistic, Summary, Tail, Ties,
};

use crate::arrays::{
    AnyBackground, AnyBuilder, PyGroupScan, PyScan, PySubsets, PyValues, dtype_of, hand_back, hand_back_group,
    hand_back_subsets, with_background, with_builder,
};
use crate::parse::{ByName, PyAlphaMax, image_limits, keep, n_nodes, n_samples, node_limits, ranking, seed};
use crate::running::{os_error, run, run_small};

/// A file that is mapped read-only.
#[pyclass(frozen, name = "MappedFile", module = "subsetscan._core")]
pub struct PyMappedFile(MappedFile);

#[pymethods]
impl PyMappedFile {
    #[new]
    fn new(path: PathBuf) -> PyResult<Self> {
        MappedFile::open(&path).map(PyMappedFile).map_err(|error| os_error(&error, &path))
    }

    fn __len__(&self) -> usize {
        self.0.bytes().len()
    }

    /// The bytes from `start` to `end`, or to the file's end.
    fn read<'py>(&self, py: Python<'py>, start: usize, end: usize) -> Bound<'py, PyBytes> {
        let bytes = self.0.bytes();
        let end = end.min(bytes.len());
        PyBytes::new(py, &bytes[start.min(end)..end])
    }
}

#[pyclass(frozen, name = "Background", module = "subsetscan._core")]
pub struct PyBackground(AnyBackground);

#[pymethods]
impl PyBackground {
    #[new]
    #[pyo3(signature = (values, tail=None, alpha_max=None))]
    fn new(
        py: Python<'_>,
        values: PyValues<'_>,
        tail: Option<ByName<Tail>>,
        alpha_max: Option<PyAlphaMax>,
    ) -> PyResult<Self> {
        AnyBackground::new(py, &values, keep(tail, alpha_max)).map(PyBackground)
    }

    #[staticmethod]
    #[pyo3(signature = (columns, n_samples, tail=None, alpha_max=None))]
    fn from_columns(
        py: Python<'_>,
        columns: PyValues<'_>,
        #[pyo3(from_py_with = n_samples)] n_samples: usize,
        tail: Option<ByName<Tail>>,
        alpha_max: Option<PyAlphaMax>,
    ) -> PyResult<Self> {
        AnyBackground::from_columns(py, &columns, n_samples, keep(tail, alpha_max)).map(PyBackground)
    }

    #[staticmethod]
    #[allow(clippy::too_many_arguments)] // here and below: one for each parameter
    fn mapped(
        file: &PyMappedFile,
        start: usize,
        #[pyo3(from_py_with = n_samples)] n_samples: usize,
        #[pyo3(from_py_with = n_nodes)] n_nodes: usize,
        dtype: &str,
        tail: Option<ByName<Tail>>,
        alpha_max: Option<PyAlphaMax>,
        name: String,
        checksum: Option<String>,
    ) -> PyResult<Self> {
        let seal = checksum.map(|checksum| Seal::new(name, checksum));
        AnyBackground::mapped(&file.0, start, (n_samples, n_nodes), dtype, keep(tail, alpha_max), seal)
            .map(PyBackground)
    }

    #[staticmethod]
    #[pyo3(signature = (n_samples, dtype, tail=None, alpha_max=None))]
    fn index_shape(
        #[pyo3(from_py_with = n_samples)] n_samples: usize,
        dtype: &str,
        tail: Option<ByName<Tail>>,
        alpha_max: Option<PyAlphaMax>,
    ) -> PyResult<(usize, usize)> {
        AnyBackground::index_shape(n_samples, dtype, keep(tail, alpha_max))
    }

    fn checksum(&self, py: Python<'_>) -> PyResult<String> {
        with_background!(&self.0, background => run(py, |stop| background.checksum(stop)))
    }

    /// The n-th part of what is in an index file behind its head; None beyond the last.
    fn index_part<'py>(&self, py: Python<'py>, n: usize) -> Option<Bound<'py, PyBytes>> {
        with_background!(&self.0, background => background.index_parts().nth(n).map(|part| PyBytes::new(py, part)))
    }

    fn columns<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        with_background!(&self.0, background => {
            run(py, |stop| background.columns(stop)).map(|columns| columns.into_pyarray(py).into_any())
        })
    }

    #[getter]
    fn n_samples(&self) -> usize {
        with_background!(&self.0, background => background.n_samples())
    }

    #[getter]
    fn n_nodes(&self) -> usize {
        with_background!(&self.0, background => background.n_nodes())
    }

    #[getter]
    fn nbytes(&self) -> usize {
        with_background!(&self.0, background => background.nbytes())
    }

    #[getter]
    fn dtype(&self) -> &'static str {
        with_background!(&self.0, background => dtype_of(background))
    }

    #[getter]
    fn tail(&self) -> Option<&'static str> {
        match with_background!(&self.0, background => background.keep()) {
            Keep::Everything => None,
            Keep::Scans { tail, .. } => Some(tail.name()),
        }
    }

    #[getter]
    fn alpha_max(&self) -> Option<f64> {
        match with_background!(&self.0, background => background.keep()) {
            Keep::Everything => None,
            Keep::Scans { alpha_max, .. } => Some(alpha_max.get()),
        }
    }

    fn p_values<'py>(
        &self,
        py: Python<'py>,
        images: PyValues<'_>,
        tail: ByName<Tail>,
        ties: ByName<Ties>,
        #[pyo3(from_py_with = seed)] seed: u64,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let (images, ranking) = (images.view(), ranking(&tail, &ties, seed));
        with_background!(&self.0, background => run(py, |stop| background.p_values(&images, ranking, stop)))
            .map(|p_values| p_values.into_pyarray(py))
    }

    fn p_value_ranges<'py>(
        &self,
        py: Python<'py>,
        images: PyValues<'_>,
        tail: ByName<Tail>,
    ) -> PyResult<Bound<'py, PyArray3<f64>>> {
        let images = images.view();
        with_background!(&self.0, background => run(py, |stop| background.p_value_ranges(&images, tail.0, stop)))
            .map(|ranges| ranges.into_pyarray(py))
    }

    #[allow(clippy::too_many_arguments)]
    fn rank_histogram<'py>(
        &self,
        py: Python<'py>,
        images: PyValues<'_>,
        membership: ByName<Membership>,
        tail: ByName<Tail>,
        alpha_max: PyAlphaMax,
        ties: ByName<Ties>,
        #[pyo3(from_py_with = seed)] seed: u64,
    ) -> PyResult<Bound<'py, PyArray2<u32>>> {
        let (images, ranking) = (images.view(), ranking(&tail, &ties, seed));
        with_background!(&self.0, background => run(py, |stop| {
            background.rank_histogram(&images, ranking, alpha_max.0, membership.0, stop)
        }))
        .map(|histograms| histograms.into_pyarray(py))
    }

    #[allow(clippy::too_many_arguments)]
    fn scan<'py>(
        &self,
        py: Python<'py>,
        images: PyValues<'_>,
        membership: ByName<Membership>,
        statistic: ByName<Statistic>,
        tail: ByName<Tail>,
        alpha_max: PyAlphaMax,
        scope: ByName<Scope>,
        ties: ByName<Ties>,
        #[pyo3(from_py_with = seed)] seed: u64,
        return_nodes: bool,
    ) -> PyResult<PyScan<'py>> {
        let ranking = ranking(&tail, &ties, seed);
        let options = ScanOptions { statistic: statistic.0, ranking, alpha_max: alpha_max.0, scope: scope.0 };
        let images = images.view();
        with_background!(&self.0, background => run_small(py, images.is_small() && background.is_checked(), |stop| {
            background.scan(&images, &options, membership.0, return_nodes, stop)
        }))
        .map(|scan| hand_back(py, scan))
    }

    #[allow(clippy::too_many_arguments)]
    fn nodes_within<'py>(
        &self,
        py: Python<'py>,
        images: PyValues<'_>,
        up_to: PyReadonlyArray1<'_, f64>,
        membership: ByName<Membership>,
        tail: ByName<Tail>,
        alpha_max: PyAlphaMax,
        ties: ByName<Ties>,
        #[pyo3(from_py_with = seed)] seed: u64,
    ) -> PyResult<PySubsets<'py>> {
        let (images, ranking, up_to) = (images.view(), ranking(&tail, &ties, seed), up_to.as_array().to_vec());
        with_background!(&self.0, background => run(py, |stop| {
            background.nodes_within(&images, &up_to, ranking, alpha_max.0, membership.0, stop)
        }))
        .map(|nodes| hand_back_subsets(py, nodes))
    }

    #[allow(clippy::too_many_arguments)]
    fn summarise<'py>(
        &self,
        py: Python<'py>,
        images: PyValues<'_>,
        membership: ByName<Membership>,
        summary: ByName<Summary>,
        tail: ByName<Tail>,
        ties: ByName<Ties>,
        #[pyo3(from_py_with = seed)] seed: u64,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let (images, ranking) = (images.view(), ranking(&tail, &ties, seed));
        with_background!(&self.0, background => run(py, |stop| {
            background.summarise(&images, summary.0, ranking, membership.0, stop)
        }))
        .map(|scores| scores.into_pyarray(py))
    }

    #[allow(clippy::too_many_arguments)]
    fn scan_group<'py>(
        &self,
        py: Python<'py>,
        images: PyValues<'_>,
        starts: PyReadonlyArray2<'_, bool>,
        from_all_nodes: bool,
        statistic: ByName<Statistic>,
        tail: ByName<Tail>,
        alpha_max: PyAlphaMax,
        ties: ByName<Ties>,
        #[pyo3(from_py_with = seed)] seed: u64,
        #[pyo3(from_py_with = image_limits)] image_limits: SideLimits,
        #[pyo3(from_py_with = node_limits)] node_limits: SideLimits,
        bound: Option<ByName<GroupBound>>,
    ) -> PyResult<PyGroupScan<'py>> {
        let options = GroupOptions {
            statistic: statistic.0,
            alpha_max: alpha_max.0,
            images: image_limits,
            nodes: node_limits,
            bound: bound.map(|bound| bound.0),
        };
        let (images, ranking) = (images.view(), ranking(&tail, &ties, seed));
        let starts = Starts { images: starts.as_array(), all_nodes: from_all_nodes };
        with_background!(&self.0, background => run(py, |stop| {
            background.scan_group(&images, ranking, &starts, &options, stop)
        }))
        .map(|found| hand_back_group(py, found))
    }
}

#[pyclass(name = "BackgroundBuilder", module = "subsetscan._core")]
pub struct PyBackgroundBuilder(Option<AnyBuilder>);

#[pymethods]
impl PyBackgroundBuilder {
    #[new]
    #[pyo3(signature = (n_samples, n_nodes, dtype, tail=None, alpha_max=None))]
    fn new(
        #[pyo3(from_py_with = n_samples)] n_samples: usize,
        #[pyo3(from_py_with = n_nodes)] n_nodes: usize,
        dtype: &str,
        tail: Option<ByName<Tail>>,
        alpha_max: Option<PyAlphaMax>,
    ) -> PyResult<Self> {
        AnyBuilder::new(n_samples, n_nodes, dtype, keep(tail, alpha_max))
            .map(|builder| PyBackgroundBuilder(Some(builder)))
    }

    fn push(&mut self, py: Python<'_>, values: PyValues<'_>) -> PyResult<()> {
        self.0.as_mut().ok_or_else(finished)?.push(py, &values)
    }

    fn merge(&mut self, py: Python<'_>, other: PyRef<'_, Self>) -> PyResult<()> {
        let other = other.0.as_ref().ok_or_else(finished)?;
        self.0.as_mut().ok_or_else(finished)?.merge(py, other)
    }

    #[staticmethod]
    #[pyo3(signature = (held, n_samples, n_pushed, tail=None, alpha_max=None))]
    fn from_held(
        py: Python<'_>,
        held: PyValues<'_>,
        #[pyo3(from_py_with = n_samples)] n_samples: usize,
        n_pushed: usize,
        tail: Option<ByName<Tail>>,
        alpha_max: Option<PyAlphaMax>,
    ) -> PyResult<Self> {
        let builder = AnyBuilder::from_held(py, (n_samples, n_pushed), &held, keep(tail, alpha_max))?;
        Ok(PyBackgroundBuilder(Some(builder)))
    }

    fn held<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.as_ref().ok_or_else(finished)?.held(py)
    }

    #[getter]
    fn n_nodes(&self) -> PyResult<usize> {
        let builder = self.0.as_ref().ok_or_else(finished)?;
        Ok(with_builder!(builder, builder => builder.n_nodes()))
    }

    #[getter]
    fn n_pushed(&self) -> PyResult<usize> {
        let builder = self.0.as_ref().ok_or_else(finished)?;
        Ok(with_builder!(builder, builder => builder.n_pushed()))
    }

    #[getter]
    fn nbytes(&self) -> PyResult<usize> {
        let builder = self.0.as_ref().ok_or_else(finished)?;
        Ok(with_builder!(builder, builder => builder.nbytes()))
    }

    fn finish(&mut self, py: Python<'_>, early: bool) -> PyResult<PyBackground> {
        self.0.take().ok_or_else(finished)?.finish(py, early).map(PyBackground)
    }
}

fn finished() -> PyErr {
    PyValueError::new_err("this background is finished: make a new builder")
}
