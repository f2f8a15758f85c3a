/** What a call is known by to its caller: the labels of the exemplars that it leaves in the metrics. */
export type Trace = Readonly<Partial<Record<'trace_id' | 'request_id', string>>>;

/** The metadata that carries the trace. */
export const TRACEPARENT = 'traceparent';

/** W3C Trace Context: version, trace, parent, flags; an all-zero trace is none. */
const traceparentPattern = /^[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?$/;
/** Beside the trace, well below the 128 characters that OpenMetrics gives an exemplar. */
const requestPattern = /^[\x21-\x7e]{1,64}$/;

/**
 * The trace that a call's metadata names, and the caller's own name of the request; undefined where there is neither. What does not look
 * like either is left out: it is only the caller's word.
 */
export function traceOf(traceparent: string | undefined, requestId: string): Trace | undefined {
  const [, trace] = traceparentPattern.exec(traceparent ?? '') ?? [];
  const request = requestPattern.test(requestId) ? requestId : undefined;
  if (trace === undefined && request === undefined) return undefined;
  return {
    ...(trace === undefined ? {} : { trace_id: trace }),
    ...(request === undefined ? {} : { request_id: request }),
  };
}
