import { constants } from 'node:http2';
import { ServerInterceptingCall, status } from '@grpc/grpc-js';
import type { CallLayer } from './call-layer.js';
import { forgetParts } from './message-parts.js';
import type { TransportSettings } from './settings.js';

type Limits = Pick<TransportSettings, 'maxCalls' | 'maxHeldBytes' | 'transferTimeoutMs'>;

/** A full server still says that it lives. */
const always = '/grpc.health.v1.Health/Check';

/**
 * Bounds what clients can make a server hold: calls, the bytes of their requests (those that arrive slowly or never in whole
 * too), and, by time, answers that are not taken. Beyond a bound a call is RESOURCE_EXHAUSTED at once, its message unread.
 */
export class Admission {
  #calls = 0;
  #bytes = 0;

  constructor(private readonly limits: Limits) {}

  /** Calls under way. */
  get calls(): number {
    return this.#calls;
  }

  /** Bytes of their requests. */
  get heldBytes(): number {
    return this.#bytes;
  }

  readonly layer: CallLayer = (call, site) => {
    const { method, stream } = site;
    const { maxCalls, maxHeldBytes, transferTimeoutMs } = this.limits;
    let admitted = false;
    let held = 0;
    let timer: NodeJS.Timeout | undefined;
    let late = (): void => undefined;
    const release = (): void => {
      this.#bytes -= held;
      held = 0;
    };
    const refuse = (code: status, details: string): void => call.sendStatus({ code, details });
    // A stream of many small messages asks for each: the timer that runs already is set back.
    const within = (otherwise: () => void): void => {
      late = otherwise;
      if (timer) timer.refresh();
      else timer = setTimeout(() => late(), transferTimeoutMs);
    };
    const inTime = (): void => {
      clearTimeout(timer);
      timer = undefined;
    };
    // A client that does not read would have its answer kept for ever.
    const unread = (): void => {
      if (stream.writableLength > 0) stream.close(constants.NGHTTP2_CANCEL);
    };
    const count = ({ length }: Buffer): void => {
      // What comes after the end is thrown away as it comes.
      if (!admitted) return;
      held += length;
      this.#bytes += length;
      if (this.#bytes <= maxHeldBytes) return;
      release();
      refuse(status.RESOURCE_EXHAUSTED, `the server holds ${maxHeldBytes} bytes of requests, which is its limit`);
    };
    const end = (): void => {
      inTime();
      stream.off('data', count);
      release();
      if (admitted) this.#calls--;
      admitted = false;
    };
    return new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata: (metadata, pass) => {
            if (this.#calls >= maxCalls && method.path !== always) {
              refuse(status.RESOURCE_EXHAUSTED, `${maxCalls} calls are under way, which is the server's limit`);
              return;
            }
            admitted = true;
            this.#calls++;
            stream.on('data', count);
            if (!method.requestStream) {
              within(() =>
                refuse(status.DEADLINE_EXCEEDED, `the request did not arrive within ${transferTimeoutMs} ms`),
              );
            }
            pass(metadata);
          },
          onReceiveMessage: (message, pass) => {
            inTime();
            forgetParts(site);
            // A stream may live for days: what it has handed over is the handler's, which has its own window.
            if (method.requestStream) release();
            pass(message);
          },
          onCancel: end,
        }),
      sendMessage: (message, next) => {
        within(unread);
        next(message);
      },
    });
  };
}
