//! Adding messages to the pipeline, in pipelined batches.

use redis::{Pipeline, Value, aio::MultiplexedConnection};

use super::{Error, Fields, Redis, reply};
use crate::{
    message::{BODY, EntryId, IMPORT, OrderRef},
    topology::StageName,
};

/// Adds messages to the stream of one stage in one partition.
#[derive(Debug)]
pub struct Publisher {
    connection: MultiplexedConnection,
    stream: String,
}

impl Publisher {
    /// A publisher with a connection of its own.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn connect(redis: &Redis, partition: u16, stage: StageName) -> Result<Self, Error> {
        Ok(Self { connection: redis.connect().await?, stream: redis.keys().stream(partition, stage) })
    }

    /// Adds the bodies in order, in one round trip; the id of the last one, or `None` for no bodies. After an error
    /// any number of them may have been added: adding them again is harmless.
    ///
    /// # Errors
    /// When Redis cannot be reached, or is full.
    pub async fn publish(&mut self, bodies: &[Vec<u8>], import_id: Option<i64>) -> Result<Option<EntryId>, Error> {
        let import_id = import_id.map(|id| id.to_string());
        let mut pipeline = Pipeline::with_capacity(bodies.len());
        for body in bodies {
            let command = pipeline.cmd("XADD").arg(&self.stream).arg("*").arg(BODY).arg(body.as_slice());
            if let Some(import_id) = &import_id {
                command.arg(IMPORT).arg(import_id);
            }
        }
        if bodies.is_empty() {
            return Ok(None);
        }
        let ids: Vec<Value> = pipeline.query_async(&mut self.connection).await?;
        ids.last().map(|id| reply::id("XADD", id)).transpose()
    }
}

impl Redis {
    /// Adds messages with these fields for `stage`, in one round trip; their ids. After an error any number of them may
    /// have been added.
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
        let stream = self.keys().stream(partition, stage);
        let mut pipeline = Pipeline::with_capacity(messages.len());
        for fields in messages {
            let command = pipeline.cmd("XADD").arg(&stream).arg("*");
            for (name, value) in fields {
                command.arg(name.as_slice()).arg(value.as_slice());
            }
        }
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<Value> = pipeline.query_async(connection).await?;
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
        let mut pipeline = Pipeline::with_capacity(orders.len());
        for order in orders {
            pipeline.cmd("XADD").arg(&stream).arg("*").arg(BODY).arg(order.encode()).ignore();
        }
        Ok(pipeline.exec_async(connection).await?)
    }
}
