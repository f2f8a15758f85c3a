import { ServerInterceptingCall, status } from '@grpc/grpc-js';
import type { CallLayer } from './call-layer.js';

/** Probes cannot send metadata (Kubernetes' cannot), and whether a model is up is no secret to who reaches the port. */
const open = '/grpc.health.v1.Health/';

/** Lets in the calls whose `authorization` header is accepted, and health; the rest is UNAUTHENTICATED before its message is read. */
export function authentication(accept: (authorization: string) => boolean): CallLayer {
  return (call, { method }) =>
    new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata: (metadata, pass) => {
            const headers = metadata.get('authorization');
            if (method.path.startsWith(open) || (headers.length === 1 && accept(String(headers[0])))) {
              // No handler has a use for it, and what none has none can log.
              metadata.remove('authorization');
              pass(metadata);
              return;
            }
            const found = headers.length === 0 ? 'got none' : 'got another';
            call.sendStatus({
              code: status.UNAUTHENTICATED,
              details: `metadata authorization: expected "Bearer" and a token of this server, ${found}`,
            });
          },
        }),
    });
}
