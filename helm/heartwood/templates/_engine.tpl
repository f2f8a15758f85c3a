{{/* What a pruner and a worker have in common: they run jobs. Where they take (list . "pruner"), the second is the component. */}}

{{- define "heartwood.engineArgs" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
{{- $roots := $root.Values.pruner -}}
{{- $inputs := ternary (list $root.Values.inputs.mountPath) (list) (not (empty (include "heartwood.inputsClaim" $root))) -}}
- --repository=/var/lib/heartwood/repository
- --data-directory=/var/lib/heartwood/pruner
- --workers={{ $values.workers }}
- --threads={{ include "heartwood.threads" $values }}
- --log-level={{ $values.logLevel }}
{{- /* Never none, which would be everywhere. */}}
{{- $none := list $root.Values.inputs.mountPath }}
{{- range default $none (concat $inputs $roots.modelRoots) }}
- --model-root={{ . }}
{{- end }}
{{- range default $none (concat $inputs $roots.dataRoots) }}
- --data-root={{ . }}
{{- end }}
{{- end -}}

{{- define "heartwood.engineEnv" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
{{ include "heartwood.cpuLimit" $root }}
{{- with $root.Values.database.secretName }}
- name: HEARTWOOD_DATABASE
  valueFrom:
    secretKeyRef: { name: {{ . }}, key: {{ $root.Values.database.key }} }
{{- end }}
{{- with $values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "heartwood.engineMounts" -}}
- { name: repository, mountPath: /var/lib/heartwood/repository }
- { name: data, mountPath: /var/lib/heartwood/pruner }
- { name: tmp, mountPath: /tmp }
{{- if include "heartwood.inputsClaim" . }}
- { name: inputs, mountPath: {{ .Values.inputs.mountPath | quote }}, readOnly: {{ .Values.inputs.readOnly }} }
{{- end }}
{{- end -}}

{{- define "heartwood.engineVolumes" -}}
{{- $root := index . 0 -}}
{{ include "heartwood.repositoryVolume" $root }}
- name: data
  {{- if $root.Values.database.secretName }}
  emptyDir: { sizeLimit: {{ $root.Values.pruner.data.size }} }
  {{- else }}
  persistentVolumeClaim: { claimName: {{ include "heartwood.prunerClaim" $root }} }
  {{- end }}
- name: tmp
  emptyDir: { sizeLimit: 1Gi }
{{- with include "heartwood.inputsClaim" $root }}
- name: inputs
  persistentVolumeClaim: { claimName: {{ . }}, readOnly: {{ $root.Values.inputs.readOnly }} }
{{- end }}
{{- end -}}
