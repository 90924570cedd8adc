//! Adding messages to the pipeline, in pipelined batches.

use redis::{Pipeline, Value, aio::MultiplexedConnection};
use tracing::{Instrument, Span};

use super::{Error, Fields, KeptConnection, Redis, reply};
use crate::{
    message::{BODY, EntryId, IMPORT, OrderRef, TRACEPARENT, TRACESTATE},
    topology::StageName,
    trace::{self, TraceContext},
};

/// Adds messages to the stream of one stage in one partition.
#[derive(Debug)]
pub struct Publisher {
    connection: KeptConnection,
    stream: String,
    stage: StageName,
    partition: u16,
}

impl Publisher {
    /// A publisher with a connection of its own.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn connect(redis: &Redis, partition: u16, stage: StageName) -> Result<Self, Error> {
        let stream = redis.keys().stream(partition, stage);
        let mut connection = KeptConnection::new(redis);
        connection.get().await?;
        Ok(Self { connection, stream, stage, partition })
    }

    /// Adds the bodies in order, in one round trip; the id of the last one, or `None` for no bodies. After an error
    /// any number of them may have been added: adding them again is harmless.
    ///
    /// # Errors
    /// When Redis cannot be reached, or is full.
    pub async fn publish(&mut self, bodies: &[Vec<u8>], import_id: Option<i64>) -> Result<Option<EntryId>, Error> {
        if bodies.is_empty() {
            return Ok(None);
        }
        let import_id = import_id.map(|id| id.to_string());
        let send = trace::send(self.stage.stream(), self.partition, bodies.len());
        let context = trace::context(&send);
        let mut pipeline = Pipeline::with_capacity(bodies.len());
        for body in bodies {
            let command = pipeline.cmd("XADD").arg(&self.stream).arg("*").arg(BODY).arg(body.as_slice());
            if let Some(import_id) = &import_id {
                command.arg(IMPORT).arg(import_id);
            }
            add_context(command, context.as_ref());
        }
        let query = pipeline.query_async(self.connection.get().await?).instrument(send.clone());
        let ids: Vec<Value> = query.await.inspect_err(|_| trace::failed(&send, "redis"))?;
        ids.last().map(|id| reply::id("XADD", id)).transpose()
    }
}

impl Redis {
    /// Adds messages with these fields for `stage`, in one round trip; their ids. After an error any number of them may
    /// have been added. While traces are exported, the context among the fields gives way to that of the sending.
    ///
    /// # Errors
    /// When Redis cannot be reached, or is full.
    pub async fn publish(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
        messages: &[Fields],
    ) -> Result<Vec<EntryId>, Error> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let stream = self.keys().stream(partition, stage);
        let send = trace::send(stage.stream(), partition, messages.len());
        let context = trace::context(&send);
        let mut pipeline = Pipeline::with_capacity(messages.len());
        for fields in messages {
            let command = pipeline.cmd("XADD").arg(&stream).arg("*");
            for (name, value) in fields {
                let is_context = [TRACEPARENT, TRACESTATE].iter().any(|field| field.as_bytes() == name);
                if context.is_none() || !is_context {
                    command.arg(name.as_slice()).arg(value.as_slice());
                }
            }
            add_context(command, context.as_ref());
        }
        let query = pipeline.query_async(connection).instrument(send.clone());
        let ids: Vec<Value> = query.await.inspect_err(|_| trace::failed(&send, "redis"))?;
        ids.iter().map(|id| reply::id("XADD", id)).collect()
    }

    /// Adds messages for `stage`, in one round trip. After an error any number of them may have been added: adding them
    /// again is harmless.
    ///
    /// # Errors
    /// When Redis cannot be reached, or is full.
    pub async fn emit(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
        orders: &[OrderRef],
    ) -> Result<(), Error> {
        let stream = self.keys().stream(partition, stage);
        let send = if orders.is_empty() { Span::none() } else { trace::send(stage.stream(), partition, orders.len()) };
        let context = trace::context(&send);
        let mut pipeline = Pipeline::with_capacity(orders.len());
        for order in orders {
            let command = pipeline.cmd("XADD").arg(&stream).arg("*").arg(BODY).arg(order.encode());
            add_context(command, context.as_ref()).ignore();
        }
        let query = pipeline.exec_async(connection).instrument(send.clone());
        Ok(query.await.inspect_err(|_| trace::failed(&send, "redis"))?)
    }
}

fn add_context<'a>(command: &'a mut Pipeline, context: Option<&TraceContext>) -> &'a mut Pipeline {
    if let Some(TraceContext { traceparent, tracestate }) = context {
        command.arg(TRACEPARENT).arg(traceparent);
        if let Some(tracestate) = tracestate {
            command.arg(TRACESTATE).arg(tracestate);
        }
    }
    command
}
