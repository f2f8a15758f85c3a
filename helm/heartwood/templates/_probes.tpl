{{/*
Probes of a gRPC service, (list . "server" 8001): started and alive is a process that answers, loading models or not; ready is one that
has loaded them. The kubelet's own gRPC probe speaks no TLS, so that with TLS `heartwood health` asks instead, less often since it is a process.
*/}}
{{- define "heartwood.grpcProbes" -}}
{{- $values := index (index . 0).Values (index . 1) -}}
{{- $tls := $values.tls.secretName -}}
{{- $period := ternary 20 10 (not (empty $tls)) -}}
startupProbe:
  {{- include "heartwood.grpcProbe" (list . "heartwood.live") | nindent 2 }}
  periodSeconds: 5
  failureThreshold: {{ include "heartwood.startupFailures" $values }}
readinessProbe:
  {{- include "heartwood.grpcProbe" (list . "") | nindent 2 }}
  periodSeconds: {{ ternary 10 5 (not (empty $tls)) }}
  failureThreshold: 2
livenessProbe:
  {{- include "heartwood.grpcProbe" (list . "heartwood.live") | nindent 2 }}
  periodSeconds: {{ $period }}
  failureThreshold: 3
{{- end -}}

{{- define "heartwood.grpcProbe" -}}
{{- $pod := index . 0 -}}
{{- $service := index . 1 -}}
{{- $values := index (index $pod 0).Values (index $pod 1) -}}
{{- if $values.tls.secretName -}}
exec:
  command:
    - heartwood
    - health
    - --address=127.0.0.1:{{ index $pod 2 }}
    {{- with $service }}
    - --service={{ . }}
    {{- end }}
    - --timeout-ms=5000
    {{- include "heartwood.healthTls" $pod | nindent 4 }}
timeoutSeconds: 10
{{- else -}}
grpc: { port: {{ index $pod 2 }}, service: {{ $service | quote }} }
timeoutSeconds: 5
{{- end -}}
{{- end -}}

{{/*
How often, each 5 seconds, the startup probe of a component's values may fail. The ports open when the provider has been tried: the limits of
libs/runtime/providers (tensorrt 300 s, cuda and webgpu 120 s, auto all of them), and what the process needs beside.
*/}}
{{- define "heartwood.startupFailures" -}}
{{- $byProvider := get (dict "cuda" 300 "webgpu" 300 "tensorrt" 600 "auto" 900) (default "cpu" .provider) | default 120 -}}
{{- divf (default $byProvider .startupSeconds) 5 | ceil | int -}}
{{- end -}}
