import type { Http2Stream } from 'node:http2';
import {
  type ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerMethodDefinition,
} from '@grpc/grpc-js';

/** What a layer around the calls of a server sees of one of them. */
export interface CallSite {
  readonly method: ServerMethodDefinition<unknown, unknown>;
  /** The call as grpc-js made it, below every layer. */
  readonly base: ServerInterceptingCallInterface;
  /** What carries it. */
  readonly stream: Http2Stream;
}

/**
 * Something that stands between the transport and the handlers of every method, and can refuse a call before a byte of its message is
 * read, which a middleware over handlers cannot.
 */
export type CallLayer = (call: ServerInterceptingCallInterface, site: CallSite) => ServerInterceptingCall;

/** Layers as the interceptor that grpc-js takes; the first is the closest to the transport. */
export function interceptorOf(layers: readonly CallLayer[]) {
  return (
    method: ServerMethodDefinition<unknown, unknown>,
    base: ServerInterceptingCallInterface,
  ): ServerInterceptingCall => {
    // grpc-js declares it private; admission.test.ts notices when it goes.
    const { stream } = base as unknown as { stream: Http2Stream };
    const site = { method, base, stream };
    // With one layer at least the result is one of theirs.
    return layers.reduce<ServerInterceptingCallInterface>(
      (call, layer) => layer(call, site),
      base,
    ) as ServerInterceptingCall;
  };
}
