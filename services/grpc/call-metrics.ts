import { ServerInterceptingCall, status } from '@grpc/grpc-js';
import { Counter, durationBuckets, Histogram, type Registry } from '../../libs/telemetry/metrics.js';
import type { CallLayer } from './call-layer.js';

const LABELS = ['grpc_type', 'grpc_service', 'grpc_method'] as const;

interface MethodShape {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
}

/**
 * The metrics that gRPC servers of every language export under these names, so that existing dashboards and alerts fit. Labels are
 * bounded: a method that is not served has no series.
 */
export class CallMetrics {
  readonly #started;
  readonly #handled;
  readonly #seconds;
  readonly #received;
  readonly #sent;

  constructor(registry: Registry) {
    const registers = [registry];
    const labelNames = [...LABELS];
    this.#started = new Counter({
      name: 'grpc_server_started_total',
      help: 'Calls started.',
      labelNames,
      registers,
    });
    this.#handled = new Counter({
      name: 'grpc_server_handled_total',
      help: 'Calls completed, by status.',
      labelNames: [...labelNames, 'grpc_code'],
      registers,
    });
    this.#seconds = new Histogram({
      name: 'grpc_server_handling_seconds',
      help: 'Time of calls from their headers to their status.',
      labelNames,
      buckets: [...durationBuckets],
      registers,
    });
    this.#received = new Counter({
      name: 'grpc_server_msg_received_total',
      help: 'Messages received.',
      labelNames,
      registers,
    });
    this.#sent = new Counter({ name: 'grpc_server_msg_sent_total', help: 'Messages sent.', labelNames, registers });
  }

  /** Gives a method its series from the start, so that a first failure is an increase. */
  expect(method: MethodShape): void {
    const labels = labelsOf(method);
    for (const counter of [this.#started, this.#received, this.#sent]) counter.inc(labels, 0);
    this.#handled.inc({ ...labels, grpc_code: codeName(status.OK) }, 0);
  }

  readonly layer: CallLayer = (call, { method, base, stream }) => {
    const labels = labelsOf(method);
    const started = performance.now();
    let ended = false;
    const end = (code: status): void => {
      if (ended) return;
      ended = true;
      this.#handled.inc({ ...labels, grpc_code: codeName(code) });
      this.#seconds.observe(labels, (performance.now() - started) / 1000);
    };
    // What grpc-js refuses by itself (a message too large, a deadline) passes no interceptor, but does pass here.
    const send = base.sendStatus.bind(base);
    base.sendStatus = (sent) => {
      // Whoever has gone gets no status any more.
      if (!stream.destroyed && !stream.closed) end(sent.code ?? status.UNKNOWN);
      send(sent);
    };
    this.#started.inc(labels);
    return new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMessage: (message, pass) => {
            this.#received.inc(labels);
            pass(message);
          },
          onCancel: () => end(status.CANCELLED),
        }),
      sendMessage: (message, next) => {
        this.#sent.inc(labels);
        next(message);
      },
    });
  };
}

function labelsOf({ path, requestStream, responseStream }: MethodShape): Record<(typeof LABELS)[number], string> {
  const [, service = '', method = ''] = path.split('/');
  const streams = requestStream ? (responseStream ? 'bidi_stream' : 'client_stream') : 'server_stream';
  return {
    grpc_type: requestStream || responseStream ? streams : 'unary',
    grpc_service: service,
    grpc_method: method,
  };
}

/** INVALID_ARGUMENT as InvalidArgument, which is how these metrics have always spelt it; CANCELLED as Canceled, likewise. */
function codeName(code: status): string {
  if (code === status.OK) return 'OK';
  if (code === status.CANCELLED) return 'Canceled';
  return (status[code] ?? 'UNKNOWN')
    .toLowerCase()
    .replace(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
