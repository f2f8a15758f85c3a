import { setMaxListeners } from 'node:events';
import { createServer, type CompatServiceDefinition, type ServiceImplementation } from 'nice-grpc';
import { HeartwoodError, messageOf } from '../../libs/errors/error.js';
import type { Logger } from '../../libs/telemetry/log.js';
import type { Registry } from '../../libs/telemetry/metrics.js';
import { HealthDefinition } from '../../proto/gen/grpc/health/v1/health.js';
import { ServerReflectionDefinition } from '../../proto/gen/grpc/reflection/v1/reflection.js';
import { Admission } from './admission.js';
import { authentication } from './authentication.js';
import { interceptorOf } from './call-layer.js';
import { limitConnections } from './connection-limit.js';
import { widenWindows } from './windows.js';
import { CallMetrics } from './call-metrics.js';
import { decodedWithCare, refuseUndecodable } from './decoding.js';
import { errorMapping } from './errors.js';
import { sendFramed } from './framed-message.js';
import { Health } from './health.js';
import { AlphaReflectionDefinition, reflection } from './reflection.js';
import { openSecurity } from './security.js';
import type { TransportSettings } from './settings.js';

/** A request may take so many times the bytes of the largest message once it is decoded: typed contents of tensors do. */
const decodedShare = 4;

/** The definitions that ts-proto writes. */
interface ServiceDefinition {
  readonly fullName: string;
  readonly methods: Readonly<
    Record<
      string,
      {
        readonly name: string;
        readonly requestType: unknown;
        readonly requestStream: boolean;
        readonly responseStream: boolean;
      }
    >
  >;
}

export interface TransportParts {
  readonly port: number;
  readonly log: Logger;
  readonly registry: Registry;
  /** Told of errors that are our own defects, with the method's path. */
  report(error: unknown, method: string): void;
}

/** A gRPC port with what every service in production needs: TLS, tokens, limits, errors, metrics, health and reflection. */
export interface Transport {
  readonly health: Health;
  /** Aborts when no more calls are taken: streams should come to their end. */
  readonly stopping: AbortSignal;
  /** Before `listen`. */
  add<Definition extends CompatServiceDefinition & ServiceDefinition>(
    definition: Definition,
    implementation: ServiceImplementation<Definition>,
  ): void;
  /** The port taken. Health is NOT_SERVING until `health.start()`. @throws HeartwoodError UNAVAILABLE naming the port */
  listen(): Promise<number>;
  /**
   * NOT_SERVING first, then, after the delay that is set, no more calls; resolves when those under way have ended, which are cut off
   * after `drainMs`. Frees everything also where `listen` failed.
   */
  stop(drainMs: number): Promise<void>;
}

/** @throws HeartwoodError INVALID_ARGUMENT naming the option or the file of certificates or tokens that is no good */
export async function openTransport(settings: TransportSettings, parts: TransportParts): Promise<Transport> {
  const { log, registry, port } = parts;
  const security = await openSecurity(settings, log);
  const metrics = new CallMetrics(registry);
  const layers = [widenWindows(), sendFramed, metrics.layer, new Admission(settings).layer];
  if (security.accept) layers.push(authentication(security.accept));
  const server = createServer({ ...channelOptions(settings), interceptors: [interceptorOf(layers)] })
    .use(errorMapping((error, method) => parts.report(error, method)))
    .use(refuseUndecodable);
  const stopping = new AbortController();
  // Every stream under way listens; they are no leak.
  setMaxListeners(0, stopping.signal);
  let listening = false;
  let unwatch = (): void => undefined;
  const health = new Health();
  const names: string[] = [];
  const add: Transport['add'] = (definition, implementation) => {
    names.push(definition.fullName);
    for (const method of Object.values(definition.methods)) {
      metrics.expect({ ...method, path: `/${definition.fullName}/${method.name}` });
    }
    server.add(decodedWithCare(definition, decodedShare * settings.maxMessageBytes), implementation);
  };
  add(HealthDefinition, health.service());
  const reflected = reflection(
    () => names.filter((name) => name !== AlphaReflectionDefinition.fullName),
    stopping.signal,
  );
  add(ServerReflectionDefinition, reflected);
  add(AlphaReflectionDefinition, reflected);

  return {
    health,
    stopping: stopping.signal,
    add,
    async listen() {
      health.announce(names);
      try {
        const grpcPort = await server.listen(`${bracketed(settings.host)}:${port}`, security.credentials);
        listening = true;
        const { maxConnections } = settings;
        unwatch = limitConnections(grpcPort, maxConnections, () =>
          log.warn({ maxConnections }, 'as many connections as there may be, closing those that come'),
        );
        return grpcPort;
      } catch (cause) {
        throw new HeartwoodError('UNAVAILABLE', `gRPC port ${port}: ${messageOf(cause)}`, { cause });
      }
    },
    async stop(drainMs) {
      health.stop();
      if (listening && settings.stopDelayMs > 0)
        await new Promise((resolve) => setTimeout(resolve, settings.stopDelayMs));
      health.end();
      stopping.abort();
      const late = setTimeout(() => {
        log.warn({ drainMs }, 'calls are still under way, cutting them off');
        server.forceShutdown();
      }, drainMs);
      await server.shutdown();
      clearTimeout(late);
      unwatch();
      security.close();
    },
  };
}

function channelOptions(settings: TransportSettings) {
  const { maxConnectionAgeMs: age } = settings;
  return {
    'grpc.max_receive_message_length': settings.maxMessageBytes,
    'grpc.max_send_message_length': settings.maxMessageBytes,
    'grpc.max_concurrent_streams': settings.maxConcurrentStreams,
    'grpc.keepalive_time_ms': settings.keepaliveMs,
    'grpc.keepalive_timeout_ms': settings.keepaliveTimeoutMs,
    'grpc.max_connection_idle_ms': settings.maxConnectionIdleMs,
    ...(age === undefined ? {} : { 'grpc.max_connection_age_ms': age }),
  };
}

/** An IPv6 address as an address with a port has it. */
function bracketed(host: string): string {
  return host.includes(':') && !host.startsWith('[') ? `[${host}]` : host;
}
