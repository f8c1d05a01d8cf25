//! Work that outlives who asked for it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_util::task::TaskTracker;

/// The work on a run. It is done by the delivery that began it, without a task of its own and the
/// change of thread that comes with one; should that delivery go away first (WeChat hangs up after
/// five seconds), the rest is done in a task.
pub(super) struct Work {
    rest: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    tasks: TaskTracker,
}

impl Work {
    /// Work that goes to `tasks` when it is left.
    pub(super) fn new(
        tasks: &TaskTracker,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self {
            rest: Some(Box::pin(work)),
            tasks: tasks.clone(),
        }
    }
}

impl Future for Work {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Taken out, so that work that panics is not taken up again by `drop`.
        let Some(mut rest) = self.rest.take() else {
            return Poll::Ready(());
        };
        let polled = rest.as_mut().poll(context);
        if polled.is_pending() {
            self.rest = Some(rest);
        }
        polled
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            self.tasks.spawn(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_that_is_left_is_done_all_the_same() {
        let tasks = TaskTracker::new();
        let (go, may_go) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let mut work = Work::new(&tasks, async move {
            may_go.await.expect("told to go");
            done.send("done").expect("awaited");
        });
        // Begun by its owner, who then goes away.
        assert!(futures::poll!(&mut work).is_pending());
        assert!(tasks.is_empty());
        drop(work);
        assert_eq!(tasks.len(), 1);
        go.send(()).expect("waits");
        assert_eq!(is_done.await, Ok("done"));
    }

    #[tokio::test]
    async fn work_that_is_done_leaves_no_task() {
        let tasks = TaskTracker::new();
        Work::new(&tasks, async {}).await;
        assert!(tasks.is_empty());
    }
}
