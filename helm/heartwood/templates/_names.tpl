{{- define "heartwood.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters, so that what is put behind it still fits a name of 63. */}}
{{- define "heartwood.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "heartwood.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "heartwood.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects a release's pods; with a component: (list . "server"). */}}
{{- define "heartwood.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "heartwood.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "heartwood.labels" -}}
{{- $root := index . 0 -}}
{{ include "heartwood.selector" . }}
app.kubernetes.io/part-of: heartwood
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/version: {{ regexReplaceAll "^[-._]+|[-._]+$" (default $root.Chart.AppVersion $root.Values.image.tag | trunc 63) "" | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "heartwood.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "heartwood.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "heartwood.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "heartwood.repositoryClaim" -}}
{{- default (printf "%s-repository" (include "heartwood.fullname" .)) .Values.repository.existingClaim -}}
{{- end -}}

{{/* The claim of the inputs, or nothing where there are none. */}}
{{- define "heartwood.inputsClaim" -}}
{{- if .Values.inputs.existingClaim -}}
{{- .Values.inputs.existingClaim -}}
{{- else if .Values.inputs.size -}}
{{- printf "%s-inputs" (include "heartwood.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "heartwood.prunerClaim" -}}
{{- default (printf "%s-pruner" (include "heartwood.fullname" .)) .Values.pruner.data.existingClaim -}}
{{- end -}}
