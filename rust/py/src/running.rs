//! Work off the interpreter's lock that Ctrl-C can end, and errors as Python exceptions.

use std::path::Path;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;
use std::{io, mem, process};

use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use rayon::{ThreadPool, ThreadPoolBuilder};
use subsetscan_core::{Error, Interrupt, StandardFloats};

/// How long Ctrl-C may wait.
const POLL: Duration = Duration::from_millis(100);

/// Do the work on the thread pool with the interpreter's lock released.
///
/// Python handles signals on the thread that called, which therefore waits, looks for one now and then, and asks the
/// work to stop if there is one.
pub fn run<R: Send>(py: Python<'_>, work: impl FnOnce(&Interrupt) -> Result<R, Error> + Send) -> PyResult<R> {
    let pool = pool(py)?;
    py.detach(|| {
        let interrupt = Interrupt::default();
        let mut signal = None;
        let result = pool.in_place_scope(|scope| {
            let (sender, receiver) = mpsc::sync_channel(1);
            let interrupt = &interrupt;
            scope.spawn(move |_| {
                // The receiver outlives the work, unless this thread panics: then nobody waits for the result.
                let _ = sender.send(work(interrupt));
            });
            loop {
                match receiver.recv_timeout(POLL) {
                    Ok(result) => break result,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        #[allow(clippy::redundant_closure_for_method_calls)] // the method's lifetime is too narrow
                        if let Err(error) = Python::attach(|py| py.check_signals()) {
                            interrupt.set();
                            signal = Some(error);
                        }
                    }
                    // The work panicked; the scope passes that on.
                    Err(mpsc::RecvTimeoutError::Disconnected) => break Err(Error::Interrupted),
                }
            }
        });
        match signal {
            Some(signal) => Err(signal),
            None => result.map_err(to_py),
        }
    })
}

/// The same, on this thread if it is done in no time.
pub fn run_small<R: Send>(
    py: Python<'_>,
    is_small: bool,
    work: impl FnOnce(&Interrupt) -> Result<R, Error> + Send,
) -> PyResult<R> {
    if !is_small {
        return run(py, work);
    }
    py.detach(|| {
        let _standard = StandardFloats::set();
        work(&Interrupt::default())
    })
    .map_err(to_py)
}

/// The standard mode of arithmetic for this thread's Python, as a context manager.
#[pyclass(unsendable, name = "StandardFloats", module = "subsetscan._core")]
pub struct PyStandardFloats(Option<StandardFloats>);

#[pymethods]
impl PyStandardFloats {
    #[new]
    fn new() -> Self {
        PyStandardFloats(None)
    }

    fn __enter__(&mut self) {
        self.0.get_or_insert_with(StandardFloats::set);
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&mut self, _error: &Bound<'_, PyTuple>) {
        self.0 = None;
    }
}

/// The thread pool of this process, the one way to other threads.
///
/// Threads do not survive a fork, and work given to the pool of the parent would wait for ever in a forked process, such
/// as a worker of `multiprocessing`. So each process that works makes its own; rayon's global one is never used. The
/// parent's is left alone: to drop it is to wait for its threads.
///
/// The interpreter's lock is held all the while, as it is by who forks: no fork finds the mutex locked.
fn pool(_: Python<'_>) -> PyResult<&'static ThreadPool> {
    static POOL: Mutex<Option<(u32, &'static ThreadPool)>> = Mutex::new(None);
    let process = process::id();
    let mut kept = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    match *kept {
        Some((owner, pool)) if owner == process => Ok(pool),
        _ => {
            // Its threads do this work alone, and keep the standard mode of arithmetic.
            let standard = |_| mem::forget(StandardFloats::set());
            let pool = ThreadPoolBuilder::new().start_handler(standard).build().map_err(|error| {
                PyOSError::new_err(format!(
                    "cannot make threads ({error}): the limit of processes and threads is reached, see `ulimit -u` and the \
                     pids.max of a container; RAYON_NUM_THREADS says how many are made"
                ))
            })?;
            let pool: &'static ThreadPool = Box::leak(Box::new(pool));
            *kept = Some((process, pool));
            Ok(pool)
        }
    }
}

/// The Python exception of an error.
pub fn to_py(error: Error) -> PyErr {
    match error {
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
        Error::Memory { .. } => PyMemoryError::new_err(error.to_string()),
        error => PyValueError::new_err(error.to_string()),
    }
}

/// The exception of a failed system call on a file.
pub fn os_error(error: &io::Error, path: &Path) -> PyErr {
    // Python makes of the number the exception it stands for; on Windows it is the fourth argument's.
    let number = error.raw_os_error();
    PyOSError::new_err((number, error.to_string(), path.to_path_buf(), number))
}
