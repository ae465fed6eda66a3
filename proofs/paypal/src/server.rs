//! The thread that listens, and what its requests share.

use std::any::Any;
use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Extensions;
use actix_web::rt::System;
use actix_web::web::{self, Data};
use actix_web::{App, HttpServer};
use parking_lot::{Mutex, MutexGuard};
use socket2::{SockRef, Socket};
use tokio::sync::{Notify, oneshot};

use crate::account::Account;
use crate::faults::Weather;
use crate::{Options, api, webhooks};

/// What changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) account: Account,
    pub(crate) weather: Weather,
    pub(crate) tokens: HashSet<String>,
    /// Every path that was asked, in order.
    pub(crate) asked: Vec<String>,
}

/// What every request shares.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) token_lasts_s: u64,
    webhook_url: Option<String>,
    pub(crate) news: Notify,
}

impl Shared {
    pub(crate) fn new(options: &Options, seed: u64, base: String) -> Self {
        let state = State {
            account: Account::new(seed, base),
            weather: Weather::new(seed),
            tokens: HashSet::new(),
            asked: vec![],
        };
        Self {
            state: Mutex::new(state),
            client_id: options.client_id.clone(),
            client_secret: options.client_secret.clone(),
            token_lasts_s: options.token_lasts_s,
            webhook_url: options.webhook_url.clone(),
            news: Notify::new(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// A connection below HTTP, so that it can end without an answer.
pub(crate) struct Line(Socket);

impl Line {
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
    listener: TcpListener,
    stop: oneshot::Receiver<()>,
) -> std::io::Result<()> {
    System::new().block_on(async move {
        let own = Arc::clone(shared);
        let server = HttpServer::new(move || {
            App::new().app_data(Data::new(Arc::clone(&own))).default_service(web::to(api::answer))
        });
        let server = server.workers(1).disable_signals().shutdown_timeout(0).on_connect(keep_line);
        let server = server.listen(listener)?.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        if let Some(url) = shared.webhook_url.clone() {
            actix_web::rt::spawn(webhooks::deliver(Arc::clone(shared), url));
        }
        // Told or dropped, it is time.
        let _ = stop.await;
        handle.stop(false).await;
        Ok(())
    })
}
