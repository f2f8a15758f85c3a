{{/* What values.schema.json cannot say: values that do not go together. Included once, by the ServiceAccount, which is always asked for. */}}
{{- define "heartwood.checks" -}}
{{- $v := .Values -}}
{{- $external := $v.database.secretName -}}
{{- if and $v.worker.enabled (not $external) -}}
{{- fail "worker.enabled: expected database.secretName beside it, since the database inside the pruner is one process's" -}}
{{- end -}}
{{- if and $v.worker.enabled (not $v.pruner.enabled) -}}
{{- fail "worker.enabled: expected pruner.enabled beside it, since workers take the pruner's jobs" -}}
{{- end -}}
{{- if and (gt (int $v.pruner.replicas) 1) (not $external) -}}
{{- fail "pruner.replicas: expected 1 without database.secretName, since the database inside the pruner is one process's" -}}
{{- end -}}
{{- if eq $v.server.kind "DaemonSet" -}}
{{- if $v.server.autoscaling.enabled -}}
{{- fail "server.autoscaling.enabled: expected server.kind Deployment, since a DaemonSet has one pod on every node" -}}
{{- end -}}
{{- if and (ne $v.repository.type "hostPath") (ne $v.repository.accessMode "ReadWriteMany") -}}
{{- fail "server.kind DaemonSet: expected repository.type hostPath or repository.accessMode ReadWriteMany, since a ReadWriteOnce volume is on one node" -}}
{{- end -}}
{{- end -}}
{{- if gt (int $v.server.autoscaling.minReplicas) (int $v.server.autoscaling.maxReplicas) -}}
{{- fail "server.autoscaling.minReplicas: expected no more than maxReplicas" -}}
{{- end -}}
{{- if and (eq (int $v.server.rollingUpdate.maxSurge) 0) (eq (int $v.server.rollingUpdate.maxUnavailable) 0) -}}
{{- fail "server.rollingUpdate: expected maxSurge or maxUnavailable to be more than 0" -}}
{{- end -}}
{{- if and $v.server.service.headless (ne $v.server.service.type "ClusterIP") -}}
{{- fail "server.service.headless: expected type ClusterIP" -}}
{{- end -}}
{{- range $name := list "server" "pruner" -}}
{{- $tls := (index $v $name).tls -}}
{{- if and $tls.clientCaSecretName (not $tls.secretName) -}}
{{- fail (printf "%s.tls.clientCaSecretName: expected %s.tls.secretName beside it" $name $name) -}}
{{- end -}}
{{- if and $tls.clientCaSecretName (not $tls.probeSecretName) -}}
{{- fail (printf "%s.tls.probeSecretName: expected a Secret with a client's certificate, which the probes show with mutual TLS" $name) -}}
{{- end -}}
{{- end -}}
{{- if and $v.monitoring.podMonitor.enabled $v.monitoring.serviceMonitor.enabled -}}
{{- fail "monitoring.podMonitor, monitoring.serviceMonitor: expected one of the two, since with both everything is scraped twice" -}}
{{- end -}}
{{- end -}}
