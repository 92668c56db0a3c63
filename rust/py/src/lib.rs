//! The Python module `subsetscan._core`: borrow, detach, map the error, hand back. Everything else is elsewhere.

#![allow(clippy::needless_pass_by_value)] // PyO3 hands arguments over by value

mod arrays;
mod running;

use pyo3::prelude::*;

/// The compiled core of subsetscan; `subsetscan` itself is the documented face.
#[pymodule]
mod _core {
    use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray3, PyReadonlyArray2};
    use pyo3::exceptions::PyValueError;
    use pyo3::prelude::*;
    use subsetscan_core::{
        AlphaMax, GroupOptions, InstructionSet, Keep, Membership, Named, Part, Ranking, ScanOptions, Scope, SideLimits,
        Starts, Statistic, Summary, Tail, Ties, scan_group_p_values, scan_p_values,
    };

    use crate::arrays::{
        AnyBackground, AnyBuilder, PyGroupScan, PyScan, PyValues, dtype_of, keep_from, number, with_background,
    };
    use crate::arrays::{hand_back, hand_back_group};
    use crate::running::{run, run_small, to_py};

    /// Choose the instruction set while there is one thread: one that is forked while another chooses would wait for it.
    #[pymodule_init]
    #[allow(clippy::unnecessary_wraps)] // as PyO3 has it
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        let _ = InstructionSet::chosen(); // what is wrong with it is said when it is needed
        Ok(())
    }

    #[pyclass(frozen, module = "subsetscan._core")]
    struct Background(AnyBackground);

    #[pymethods]
    impl Background {
        #[new]
        #[pyo3(signature = (values, tail=None, alpha_max=None))]
        fn new(py: Python<'_>, values: PyValues<'_>, tail: Option<&str>, alpha_max: Option<f64>) -> PyResult<Self> {
            AnyBackground::new(py, &values, keep_from(tail, alpha_max)?).map(Background)
        }

        #[staticmethod]
        #[pyo3(signature = (columns, n_samples, tail=None, alpha_max=None))]
        fn from_columns(
            py: Python<'_>,
            columns: PyValues<'_>,
            n_samples: Bound<'_, PyAny>,
            tail: Option<&str>,
            alpha_max: Option<f64>,
        ) -> PyResult<Self> {
            AnyBackground::from_columns(py, &columns, number("n_samples", &n_samples)?, keep_from(tail, alpha_max)?)
                .map(Background)
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
            tail: &str,
            ties: &str,
            seed: Bound<'_, PyAny>,
        ) -> PyResult<Bound<'py, PyArray2<f64>>> {
            let (images, ranking) = (images.view(), ranking(tail, ties, seed_of(&seed)?)?);
            let p = with_background!(
                &self.0,
                background => run(py, |stop| background.p_values(&images, ranking, stop))
            )?;
            Ok(p.into_pyarray(py))
        }

        fn p_value_ranges<'py>(
            &self,
            py: Python<'py>,
            images: PyValues<'_>,
            tail: &str,
        ) -> PyResult<Bound<'py, PyArray3<f64>>> {
            let (images, tail) = (images.view(), Tail::by_name(tail).map_err(to_py)?);
            let ranges = with_background!(
                &self.0,
                background => run(py, |stop| background.p_value_ranges(&images, tail, stop))
            )?;
            Ok(ranges.into_pyarray(py))
        }

        #[allow(clippy::too_many_arguments)] // one for each parameter
        fn rank_histogram<'py>(
            &self,
            py: Python<'py>,
            images: PyValues<'_>,
            membership: &str,
            tail: &str,
            alpha_max: f64,
            ties: &str,
            seed: Bound<'_, PyAny>,
        ) -> PyResult<Bound<'py, PyArray2<u32>>> {
            let (images, ranking) = (images.view(), ranking(tail, ties, seed_of(&seed)?)?);
            let alpha_max = AlphaMax::try_from(alpha_max).map_err(to_py)?;
            let membership = Membership::by_name(membership).map_err(to_py)?;
            let histogram = with_background!(
                &self.0,
                background => run(py, |stop| background.rank_histogram(&images, ranking, alpha_max, membership, stop))
            )?;
            Ok(histogram.into_pyarray(py))
        }

        #[allow(clippy::too_many_arguments)]
        fn scan<'py>(
            &self,
            py: Python<'py>,
            images: PyValues<'_>,
            membership: &str,
            statistic: &str,
            tail: &str,
            alpha_max: f64,
            scope: &str,
            ties: &str,
            seed: Bound<'_, PyAny>,
            return_nodes: bool,
        ) -> PyResult<PyScan<'py>> {
            let options = options(statistic, ranking(tail, ties, seed_of(&seed)?)?, alpha_max, scope)?;
            let (images, membership) = (images.view(), Membership::by_name(membership).map_err(to_py)?);
            let scan = with_background!(
                &self.0,
                background => run_small(py, images.is_small(), |stop| {
                    background.scan(&images, &options, membership, return_nodes, stop)
                })
            )?;
            Ok(hand_back(py, scan))
        }

        #[allow(clippy::too_many_arguments)]
        fn summarise<'py>(
            &self,
            py: Python<'py>,
            images: PyValues<'_>,
            membership: &str,
            summary: &str,
            tail: &str,
            ties: &str,
            seed: Bound<'_, PyAny>,
        ) -> PyResult<Bound<'py, PyArray1<f64>>> {
            let (images, ranking) = (images.view(), ranking(tail, ties, seed_of(&seed)?)?);
            let summary = Summary::by_name(summary).map_err(to_py)?;
            let membership = Membership::by_name(membership).map_err(to_py)?;
            let scores = with_background!(
                &self.0,
                background => run(py, |stop| background.summarise(&images, summary, ranking, membership, stop))
            )?;
            Ok(scores.into_pyarray(py))
        }

        #[allow(clippy::too_many_arguments)] // one for each parameter of the scan
        fn scan_group<'py>(
            &self,
            py: Python<'py>,
            images: PyValues<'_>,
            starts: PyReadonlyArray2<'_, bool>,
            from_all_nodes: bool,
            statistic: &str,
            tail: &str,
            alpha_max: f64,
            ties: &str,
            seed: Bound<'_, PyAny>,
            image_limits: Limits<'_>,
            node_limits: Limits<'_>,
            with_bound: bool,
        ) -> PyResult<PyGroupScan<'py>> {
            let options = group_options(statistic, alpha_max, image_limits, node_limits, with_bound)?;
            let (images, ranking) = (images.view(), ranking(tail, ties, seed_of(&seed)?)?);
            let starts = Starts { images: starts.as_array(), all_nodes: from_all_nodes };
            let found = with_background!(
                &self.0,
                background => run(py, |stop| background.scan_group(&images, ranking, &starts, &options, stop))
            )?;
            Ok(hand_back_group(py, found))
        }
    }

    #[pyclass(module = "subsetscan._core")]
    struct BackgroundBuilder(Option<AnyBuilder>);

    #[pymethods]
    impl BackgroundBuilder {
        #[new]
        #[pyo3(signature = (n_samples, n_nodes, dtype, tail=None, alpha_max=None))]
        fn new(
            n_samples: Bound<'_, PyAny>,
            n_nodes: Bound<'_, PyAny>,
            dtype: &str,
            tail: Option<&str>,
            alpha_max: Option<f64>,
        ) -> PyResult<Self> {
            let keep = keep_from(tail, alpha_max)?;
            let (n_samples, n_nodes) = (number("n_samples", &n_samples)?, number("n_nodes", &n_nodes)?);
            AnyBuilder::new(n_samples, n_nodes, dtype, keep).map(|builder| BackgroundBuilder(Some(builder)))
        }

        fn push(&mut self, py: Python<'_>, values: PyValues<'_>) -> PyResult<()> {
            self.0.as_mut().ok_or_else(finished)?.push(py, &values)
        }

        fn finish(&mut self, py: Python<'_>) -> PyResult<Background> {
            self.0.take().ok_or_else(finished)?.finish(py).map(Background)
        }
    }

    fn finished() -> PyErr {
        PyValueError::new_err("this background is finished: make a new builder")
    }

    #[pyfunction]
    fn scan<'py>(
        py: Python<'py>,
        p_values: PyReadonlyArray2<'_, f64>,
        statistic: &str,
        alpha_max: f64,
        scope: &str,
        return_nodes: bool,
    ) -> PyResult<PyScan<'py>> {
        let options = options(statistic, Ranking::default(), alpha_max, scope)?;
        let p_values = p_values.as_array();
        let scan = run(py, |stop| {
            scan_p_values(&p_values, options.statistic, options.alpha_max, options.scope, return_nodes, stop)
        })?;
        Ok(hand_back(py, scan))
    }

    #[pyfunction]
    #[allow(clippy::too_many_arguments)]
    fn scan_histograms<'py>(
        py: Python<'py>,
        histograms: Vec<PyReadonlyArray2<'_, u32>>,
        tails: Vec<String>,
        ties: &str,
        n_samples: Bound<'_, PyAny>,
        n_nodes: Bound<'_, PyAny>,
        statistic: &str,
        alpha_max: f64,
        scope: &str,
    ) -> PyResult<(PyScan<'py>, Bound<'py, PyArray2<i64>>)> {
        let options = options(statistic, Ranking::default(), alpha_max, scope)?;
        let mut parts = Vec::new();
        for (histograms, tail) in histograms.iter().zip(&tails) {
            parts.push(Part { histograms: histograms.as_array(), ranking: ranking(tail, ties, 0)? });
        }
        let (n_samples, n_nodes) = (number("n_samples", &n_samples)?, number("n_nodes", &n_nodes)?);
        let (scan, shares) =
            run(py, |stop| subsetscan_core::scan_histograms(&parts, n_samples, n_nodes, &options, stop))?;
        Ok((hand_back(py, scan), shares.into_pyarray(py)))
    }

    fn ranking(tail: &str, ties: &str, seed: u64) -> PyResult<Ranking> {
        Ok(Ranking { tail: Tail::by_name(tail).map_err(to_py)?, ties: Ties::by_name(ties).map_err(to_py)?, seed })
    }

    #[pyfunction]
    #[allow(clippy::too_many_arguments)] // one for each parameter of the scan
    fn scan_group<'py>(
        py: Python<'py>,
        p_values: PyReadonlyArray2<'_, f64>,
        starts: PyReadonlyArray2<'_, bool>,
        from_all_nodes: bool,
        statistic: &str,
        alpha_max: f64,
        image_limits: Limits<'_>,
        node_limits: Limits<'_>,
        with_bound: bool,
    ) -> PyResult<PyGroupScan<'py>> {
        let options = group_options(statistic, alpha_max, image_limits, node_limits, with_bound)?;
        let p_values = p_values.as_array();
        let starts = Starts { images: starts.as_array(), all_nodes: from_all_nodes };
        let found = run(py, |stop| scan_group_p_values(&p_values, &starts, &options, stop))?;
        Ok(hand_back_group(py, found))
    }

    fn seed_of(seed: &Bound<'_, PyAny>) -> PyResult<u64> {
        number("random_state", seed).map(|seed| seed as u64)
    }

    /// The smallest and the largest number of images or nodes in a block.
    type Limits<'py> = (Option<Bound<'py, PyAny>>, Option<Bound<'py, PyAny>>);

    fn side_limits(what: &'static str, (min, max): Limits<'_>) -> PyResult<SideLimits> {
        let limit = |value: Option<Bound<'_, PyAny>>| {
            value.map(|value| number(&format!("the limits of {what}"), &value)).transpose()
        };
        SideLimits::new(what, limit(min)?, limit(max)?).map_err(to_py)
    }

    fn group_options(
        statistic: &str,
        alpha_max: f64,
        images: Limits<'_>,
        nodes: Limits<'_>,
        with_bound: bool,
    ) -> PyResult<GroupOptions> {
        Ok(GroupOptions {
            statistic: Statistic::by_name(statistic).map_err(to_py)?,
            alpha_max: AlphaMax::try_from(alpha_max).map_err(to_py)?,
            images: side_limits("images", images)?,
            nodes: side_limits("nodes", nodes)?,
            with_bound,
        })
    }

    fn options(statistic: &str, ranking: Ranking, alpha_max: f64, scope: &str) -> PyResult<ScanOptions> {
        Ok(ScanOptions {
            statistic: Statistic::by_name(statistic).map_err(to_py)?,
            ranking,
            alpha_max: AlphaMax::try_from(alpha_max).map_err(to_py)?,
            scope: Scope::by_name(scope).map_err(to_py)?,
        })
    }
}
