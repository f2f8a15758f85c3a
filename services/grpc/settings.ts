import { z } from 'zod';
import { longestTimer, milliseconds, millisecondsOrNone } from '../settings/milliseconds.js';

const atLeastOne = z.int().min(1);
/** grpc-js adds up to a tenth by chance, so that not all connections come anew at once. */
const longestAge = Math.floor(longestTimer / 1.1);
const file = z.string().min(1).optional();

/** What every gRPC service of this project can be told of its transport; spread into the schema of the service's own settings. */
export const transportShape = {
  /** The address that gRPC listens on. */
  host: z.string().min(1).default('0.0.0.0'),
  /** The address that the metrics listen on; gRPC's when absent. */
  metricsHost: z.string().min(1).optional(),

  /** PEM files: with a certificate chain and its private key gRPC speaks TLS alone. */
  tlsCert: file,
  tlsKey: file,
  /** PEM file of the authorities whose clients are let in; without a certificate of theirs a client is not (mutual TLS). */
  tlsClientCa: file,
  /** A bearer token that every call has to carry. */
  authToken: z.string().optional(),
  /** A file of bearer tokens, one a line, any of which will do. */
  authTokenFile: file,
  /** Milliseconds between two looks at those files: what was renewed on disk is taken up. */
  securityPollMs: milliseconds.default(10_000),

  /** Bytes of the largest gRPC message, either way. */
  maxMessageBytes: atLeastOne.default(64 * 1024 * 1024),
  /** Connections at a time; the next is closed as it comes. */
  maxConnections: atLeastOne.default(4096),
  /** Calls of one connection that are under way at a time; a client waits with the next. */
  maxConcurrentStreams: atLeastOne.default(1024),
  /** Calls of all connections that are under way at a time; the next is refused, unread. */
  maxCalls: atLeastOne.default(4096),
  /** Bytes of requests that are held at a time, arrived in whole or in part, over all connections. */
  maxHeldBytes: atLeastOne.default(512 * 1024 * 1024),
  /** Milliseconds that a client gets to send a unary request, or to take one message of an answer. */
  transferTimeoutMs: milliseconds.default(60_000),
  /** Milliseconds of silence after which a connection is asked for a sign of life, and those it gets to give one. */
  keepaliveMs: milliseconds.default(60_000),
  keepaliveTimeoutMs: milliseconds.default(20_000),
  /** Milliseconds after which a connection without calls is closed. */
  maxConnectionIdleMs: milliseconds.default(15 * 60_000),
  /** Milliseconds after which a connection is asked to come anew, so that a balancer can move it; never when absent. */
  maxConnectionAgeMs: milliseconds.max(longestAge, `expected ${longestAge} milliseconds at most`).optional(),
  /** Milliseconds between health's NOT_SERVING and the end of new calls, for balancers to take note. */
  stopDelayMs: millisecondsOrNone.default(0),
};

type Schema = z.ZodObject<typeof transportShape>;
export type TransportOptions = z.input<Schema>;
export type TransportSettings = z.output<Schema>;
