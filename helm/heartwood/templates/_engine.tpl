{{/* What a pruner and a worker have in common: they run jobs. Where they take (list . "pruner"), the second is the component. */}}

{{- define "heartwood.engineArgs" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
{{- $roots := $root.Values.pruner -}}
{{- $inputs := ternary (list $root.Values.inputs.mountPath) (list) (not (empty (include "heartwood.inputsClaim" $root))) -}}
{{- if include "heartwood.usesRepository" . }}
- --repository=/var/lib/heartwood/repository
{{- end }}
- --data-directory=/var/lib/heartwood/pruner
- --workers={{ $values.workers }}
- --threads={{ include "heartwood.threads" $values }}
- --log-level={{ $values.logLevel }}
{{- include "heartwood.provider" $values }}
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
{{- $root := index . 0 -}}
{{- if include "heartwood.usesRepository" . }}
- { name: repository, mountPath: /var/lib/heartwood/repository }
{{- end }}
- { name: data, mountPath: /var/lib/heartwood/pruner }
- { name: tmp, mountPath: /tmp }
{{- if include "heartwood.inputsClaim" $root }}
- { name: inputs, mountPath: {{ $root.Values.inputs.mountPath | quote }}, readOnly: {{ $root.Values.inputs.readOnly }} }
{{- end }}
{{- end -}}

{{- define "heartwood.engineVolumes" -}}
{{- $root := index . 0 -}}
{{- if include "heartwood.usesRepository" . }}
{{ include "heartwood.repositoryVolume" $root }}
{{- end }}
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
