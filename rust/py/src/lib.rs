//! The Python module `subsetscan._core`: borrow, detach, map the error, hand back. Everything else is elsewhere.

#![allow(clippy::needless_pass_by_value)] // PyO3 hands arguments over by value

mod arrays;
mod background;
mod parse;
mod running;

use pyo3::prelude::*;

/// The compiled core of subsetscan; `subsetscan` itself is the documented face.
#[pymodule]
mod _core {
    use numpy::{IntoPyArray, PyArray2, PyReadonlyArray2};
    use pyo3::prelude::*;
    use pyo3::types::PyTuple;
    use subsetscan_core::{
        GroupBound, GroupOptions, InstructionSet, Named, Part, Ranking, ScanOptions, Scope, SideLimits, Starts,
        Statistic, Summary, Tail, Ties, scan_group_p_values, scan_p_values,
    };

    use crate::arrays::{PyGroupScan, PyScan, PyValues, hand_back, hand_back_group};
    #[pymodule_export]
    use crate::background::{PyBackground, PyBackgroundBuilder, PyMappedFile};
    use crate::parse::{ByName, PyAlphaMax, image_limits, n_nodes, n_samples, names, node_limits, ranking};
    #[pymodule_export]
    use crate::running::PyStandardFloats;
    use crate::running::{run, run_small};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // While there is one thread: one that is forked while another chooses would wait for it.
        let _ = InstructionSet::chosen(); // what is wrong with it is said when it is needed
        add_names::<Statistic>(module, "STATISTICS")?;
        add_names::<Tail>(module, "TAILS")?;
        add_names::<Scope>(module, "SCOPES")?;
        add_names::<Ties>(module, "TIES")?;
        add_names::<Summary>(module, "SUMMARIES")?;
        add_names::<GroupBound>(module, "BOUNDS")
    }

    fn add_names<T: Named>(module: &Bound<'_, PyModule>, constant: &str) -> PyResult<()> {
        module.add(constant, PyTuple::new(module.py(), names::<T>())?)
    }

    #[pyfunction]
    fn scan<'py>(
        py: Python<'py>,
        p_values: PyReadonlyArray2<'_, f64>,
        statistic: ByName<Statistic>,
        alpha_max: PyAlphaMax,
        scope: ByName<Scope>,
        return_nodes: bool,
    ) -> PyResult<PyScan<'py>> {
        let p_values = p_values.as_array();
        run(py, |stop| scan_p_values(&p_values, statistic.0, alpha_max.0, scope.0, return_nodes, stop))
            .map(|scan| hand_back(py, scan))
    }

    #[pyfunction]
    fn within_sample_ranks<'py>(py: Python<'py>, values: PyValues<'_>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let values = values.view();
        run_small(py, values.is_small(), |stop| subsetscan_core::within_sample_ranks(&values, stop))
            .map(|ranks| ranks.into_pyarray(py))
    }

    #[pyfunction]
    #[allow(clippy::too_many_arguments)] // here and below: one for each parameter of the scan
    fn scan_histograms<'py>(
        py: Python<'py>,
        histograms: Vec<PyReadonlyArray2<'_, u32>>,
        tails: Vec<ByName<Tail>>,
        ties: ByName<Ties>,
        #[pyo3(from_py_with = n_samples)] n_samples: usize,
        #[pyo3(from_py_with = n_nodes)] n_nodes: usize,
        statistic: ByName<Statistic>,
        alpha_max: PyAlphaMax,
        scope: ByName<Scope>,
    ) -> PyResult<(PyScan<'py>, Bound<'py, PyArray2<i64>>)> {
        let pairs = histograms.iter().zip(&tails);
        let parts: Vec<_> = pairs
            .map(|(counts, tail)| Part { histograms: counts.as_array(), ranking: ranking(tail, &ties, 0) })
            .collect();
        let (statistic, ranking) = (statistic.0, Ranking::default());
        let options = ScanOptions { statistic, ranking, alpha_max: alpha_max.0, scope: scope.0 };
        run(py, |stop| subsetscan_core::scan_histograms(&parts, n_samples, n_nodes, &options, stop))
            .map(|(scan, shares)| (hand_back(py, scan), shares.into_pyarray(py)))
    }

    #[pyfunction]
    #[allow(clippy::too_many_arguments)]
    fn scan_group<'py>(
        py: Python<'py>,
        p_values: PyReadonlyArray2<'_, f64>,
        starts: PyReadonlyArray2<'_, bool>,
        from_all_nodes: bool,
        statistic: ByName<Statistic>,
        alpha_max: PyAlphaMax,
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
        let p_values = p_values.as_array();
        let starts = Starts { images: starts.as_array(), all_nodes: from_all_nodes };
        run(py, |stop| scan_group_p_values(&p_values, &starts, &options, stop)).map(|found| hand_back_group(py, found))
    }
}
