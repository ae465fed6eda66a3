//! The thread that listens: the front door, which an outage closes, and the control door, which stays open.

use std::any::Any;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Extensions, ServerHandle};
use actix_web::rt::System;
use actix_web::web::{self, Data};
use actix_web::{App, HttpServer};
use socket2::{SockRef, Socket};
use tokio::sync::oneshot;

use crate::faults::Outage;
use crate::shared::Shared;
use crate::{api, control, webhooks};

/// A connection below HTTP, so that it can end without an answer.
pub(crate) struct Line(Socket);

impl Line {
    /// Ends the connection at once; whatever was to be answered is not.
    pub(crate) fn cut(&self) {
        // A connection that has ended already is as cut as it can be.
        let _ = self.0.set_linger(Some(Duration::ZERO));
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

fn keep_line(connection: &dyn Any, data: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<actix_web::rt::net::TcpStream>()
        && let Ok(socket) = SockRef::from(stream).try_clone()
    {
        data.insert(Line(socket));
    }
}

/// Serves until `stop` is told or dropped.
pub(crate) fn serve(
    shared: &Arc<Shared>,
    front: TcpListener,
    control_door: TcpListener,
    webhooks_at_once: usize,
    stop: oneshot::Receiver<()>,
) -> std::io::Result<()> {
    let address = front.local_addr()?;
    System::new().block_on(async move {
        let own = Arc::clone(shared);
        let control_server = HttpServer::new(move || {
            App::new().app_data(Data::new(Arc::clone(&own))).configure(control::routes)
        });
        let control_server =
            control_server.workers(1).disable_signals().shutdown_timeout(0).listen(control_door)?.run();
        let control_handle = control_server.handle();
        actix_web::rt::spawn(control_server);
        let deliverer = actix_web::rt::spawn(webhooks::deliver(Arc::clone(shared), webhooks_at_once));
        let mut front_handle = Some(listen(shared, front)?);
        let mut outage = shared.outage.subscribe();
        // An outage that was asked for before this thread came here is none that it has seen.
        outage.mark_changed();
        let mut stop = stop;
        loop {
            tokio::select! {
                _ = &mut stop => break,
                changed = outage.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
            }
            let closed = *outage.borrow_and_update() == Outage::Refused;
            match (closed, front_handle.take()) {
                (true, Some(handle)) => handle.stop(false).await,
                (false, None) => front_handle = Some(listen(shared, TcpListener::bind(address)?)?),
                (_, same) => front_handle = same,
            }
        }
        deliverer.abort();
        if let Some(handle) = front_handle {
            handle.stop(false).await;
        }
        control_handle.stop(false).await;
        Ok(())
    })
}

fn listen(shared: &Arc<Shared>, listener: TcpListener) -> std::io::Result<ServerHandle> {
    let shared = Arc::clone(shared);
    let counted = Arc::clone(&shared);
    let on_connect = move |connection: &dyn Any, data: &mut Extensions| {
        counted.state().figures.connections += 1;
        keep_line(connection, data);
    };
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(Arc::clone(&shared)))
            .configure(control::routes)
            .default_service(web::to(api::answer))
    });
    let server = server.workers(1).disable_signals().shutdown_timeout(0).on_connect(on_connect);
    let server = server.listen(listener)?.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Ok(handle)
}
