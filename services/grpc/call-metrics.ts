import { ServerInterceptingCall, status } from '@grpc/grpc-js';
import { Counter, durationBuckets, Histogram, type Registry } from '../../libs/telemetry/metrics.js';
import type { CallLayer } from './call-layer.js';

const LABELS = ['grpc_type', 'grpc_service', 'grpc_method'] as const;

type Labels = Record<(typeof LABELS)[number], string>;

/** Messages of a method since the metrics were last read: a stream has many, and to find a series by its labels costs more than to count. */
interface MethodMessages {
  readonly labels: Labels;
  received: number;
  sent: number;
}

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
  readonly #methods = new Map<string, MethodMessages>();

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
    const messages = (name: string, help: string, counted: 'received' | 'sent') => {
      const methods = this.#methods;
      new Counter({
        ...{ name, help, labelNames, registers },
        collect() {
          for (const method of methods.values()) {
            this.inc(method.labels, method[counted]);
            method[counted] = 0;
          }
        },
      });
    };
    messages('grpc_server_msg_received_total', 'Messages received.', 'received');
    messages('grpc_server_msg_sent_total', 'Messages sent.', 'sent');
  }

  /** Gives a method its series from the start, so that a first failure is an increase. */
  expect(method: MethodShape): void {
    const { labels } = this.#messagesOf(method);
    this.#started.inc(labels, 0);
    this.#handled.inc({ ...labels, grpc_code: codeName(status.OK) }, 0);
  }

  readonly layer: CallLayer = (call, { method, base, stream }) => {
    const messages = this.#messagesOf(method);
    const { labels } = messages;
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
            messages.received++;
            pass(message);
          },
          onCancel: () => end(status.CANCELLED),
        }),
      sendMessage: (message, next) => {
        messages.sent++;
        next(message);
      },
    });
  };

  #messagesOf(method: MethodShape): MethodMessages {
    const known = this.#methods.get(method.path);
    if (known) return known;
    const messages = { labels: labelsOf(method), received: 0, sent: 0 };
    this.#methods.set(method.path, messages);
    return messages;
  }
}

function labelsOf({ path, requestStream, responseStream }: MethodShape): Labels {
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
