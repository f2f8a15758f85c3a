{{/* The parts that the pods have in common. Where they take (list . "server"), the second is the component. */}}

{{- define "heartwood.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{/* The same of a component, (list . "server"), with the groups of its device files. */}}
{{- define "heartwood.groupedSecurity" -}}
{{ include "heartwood.podSecurity" (index . 0) }}
{{- with (index (index . 0).Values (index . 1)).supplementalGroups }}
supplementalGroups: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What gives a component, (list . "server"), its accelerator: the container runtime, and the resource of a device plugin. */}}
{{- define "heartwood.runtimeClass" -}}
{{- with (index (index . 0).Values (index . 1)).runtimeClassName -}}
runtimeClassName: {{ . }}
{{- end -}}
{{- end -}}

{{- define "heartwood.resources" -}}
{{- $values := index (index . 0).Values (index . 1) -}}
{{- $gpu := ternary (dict "limits" (dict $values.gpu.resource (int $values.gpu.count))) dict $values.gpu.enabled -}}
{{- mergeOverwrite (deepCopy $values.resources) $gpu | toYaml -}}
{{- end -}}

{{- define "heartwood.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* What every pod says before its containers. No variables of Services: their names would begin with HEARTWOOD_, as the settings do. */}}
{{- define "heartwood.podHead" -}}
serviceAccountName: {{ include "heartwood.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "heartwood.placement" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $values := index $root.Values $component -}}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- $together := include "heartwood.together" . }}
{{- if or $together $values.nodeAffinity $values.podAntiAffinity }}
affinity:
  {{- with $values.nodeAffinity }}
  nodeAffinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.podAntiAffinity }}
  podAntiAffinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $together }}
  podAffinity: {{- . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Whether a component, (list . "worker"), uses the repository. */}}
{{- define "heartwood.usesRepository" -}}
{{- if or (ne (index . 1) "worker") (index . 0).Values.worker.wholeJobs -}}true{{- end -}}
{{- end -}}

{{/*
Pods that share a folder of a node, or a volume that one node has, belong on one node. The first of them matches its own term, which the
scheduler lets pass. Not a DaemonSet, which is on many nodes by its nature: its pruner goes to one of them.
*/}}
{{- define "heartwood.together" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $repository := $root.Values.repository -}}
{{- $oneNode := or (eq $repository.type "hostPath") (eq $repository.accessMode "ReadWriteOnce") -}}
{{- $sharesRepository := and $oneNode (include "heartwood.usesRepository" .) -}}
{{- $sharesInputs := and (eq $component "worker") (include "heartwood.inputsClaim" $root) (eq $root.Values.inputs.accessMode "ReadWriteOnce") -}}
{{- if and (or $sharesRepository $sharesInputs) (not (and (eq $component "server") (eq $root.Values.server.kind "DaemonSet"))) -}}
requiredDuringSchedulingIgnoredDuringExecution:
  - topologyKey: kubernetes.io/hostname
    labelSelector:
      matchLabels:
        {{- if $sharesRepository }}
        app.kubernetes.io/instance: {{ $root.Release.Name }}
        heartwood/repository: {{ include "heartwood.fullname" $root }}
        {{- else }}
        {{- include "heartwood.selector" (list $root "pruner") | nindent 8 }}
        {{- end }}
{{- end -}}
{{- end -}}

{{- define "heartwood.podMetadata" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
labels:
  {{- include "heartwood.labels" . | nindent 2 }}
  {{- if include "heartwood.usesRepository" . }}
  heartwood/repository: {{ include "heartwood.fullname" $root }}
  {{- end }}
  {{- with $values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.podAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "heartwood.repositoryVolume" -}}
- name: repository
  {{- if eq .Values.repository.type "hostPath" }}
  # Not made when it is missing: it would belong to root.
  hostPath: { path: {{ .Values.repository.hostPath | quote }}, type: Directory }
  {{- else }}
  persistentVolumeClaim: { claimName: {{ include "heartwood.repositoryClaim" . }} }
  {{- end }}
{{- end -}}

{{/* The limit of CPUs, rounded up; the node's where there is none. */}}
{{- define "heartwood.cpuLimit" -}}
- name: CPU_LIMIT
  valueFrom:
    resourceFieldRef: { resource: limits.cpu, divisor: '1' }
{{- end -}}

{{- define "heartwood.threads" -}}
{{- if .threads }}{{ .threads }}{{ else }}$(CPU_LIMIT){{ end -}}
{{- end -}}

{{- define "heartwood.provider" -}}
{{- with .provider }}
- --provider={{ . }}
{{- end }}
{{- if .providerRequired }}
- --provider-required
{{- end }}
{{- end -}}
