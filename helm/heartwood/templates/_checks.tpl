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
{{- if and $tls.probeSecretName (not $tls.secretName) -}}
{{- fail (printf "%s.tls.probeSecretName: expected %s.tls.secretName beside it, since without TLS no probe shows a certificate" $name $name) -}}
{{- end -}}
{{- $service := (index $v $name).service -}}
{{- if and $service.nodePort (eq $service.type "ClusterIP") -}}
{{- fail (printf "%s.service.nodePort: expected %s.service.type NodePort or LoadBalancer beside it, since a ClusterIP has no port of the nodes" $name $name) -}}
{{- end -}}
{{- if and $tls.clientCaSecretName (not $tls.probeSecretName) -}}
{{- fail (printf "%s.tls.probeSecretName: expected a Secret with a client's certificate, which the probes show with mutual TLS" $name) -}}
{{- end -}}
{{- end -}}
{{- if and $v.monitoring.podMonitor.enabled $v.monitoring.serviceMonitor.enabled -}}
{{- fail "monitoring.podMonitor, monitoring.serviceMonitor: expected one of the two, since with both everything is scraped twice" -}}
{{- end -}}
{{- include "heartwood.componentChecks" . -}}
{{- include "heartwood.pathChecks" . -}}
{{- end -}}

{{/* What the chart says itself, of every component: flags, variables that stand for such flags, labels that select. */}}
{{- define "heartwood.componentChecks" -}}
{{- $v := .Values -}}
{{- $flags := list "host" "port" "metrics-port" "metrics-host" "repository" "workers" "threads" "log-level" "provider" "provider-required" "tls-cert" "tls-key" "tls-client-ca" "auth-token-file" -}}
{{- $own := dict "server" (list "drain-ms" "stop-delay-ms" "max-connection-age-ms" "energy-root" "energy-sample-hz") -}}
{{- $engine := list "data-directory" "database" "model-root" "data-root" -}}
{{- range $name := list "server" "pruner" "worker" -}}
{{- $values := index $v $name -}}
{{- $set := concat $flags (get $own $name | default $engine) -}}
{{- range $values.extraArgs -}}
{{- $flag := . | trimPrefix "--" | splitList "=" | first -}}
{{- if has $flag $set -}}
{{- fail (printf "%s.extraArgs: expected flags that the chart does not set itself, got --%s: it has a value of its own, or is fixed" $name $flag) -}}
{{- end -}}
{{- end -}}
{{- range $values.env -}}
{{- if has (.name | trimPrefix "HEARTWOOD_" | lower | replace "_" "-") (ternary $set list (hasPrefix "HEARTWOOD_" .name)) -}}
{{- fail (printf "%s.env: expected variables that the chart does not set itself, got %s: set the value of that name" $name .name) -}}
{{- end -}}
{{- end -}}
{{- range $label, $_ := $values.podLabels -}}
{{- if or (has $label (list "heartwood/repository" "helm.sh/chart")) (regexMatch "^app\\.kubernetes\\.io/(name|instance|component|version|part-of|managed-by)$" $label) -}}
{{- fail (printf "%s.podLabels: expected labels that the chart does not set itself, got %s" $name $label) -}}
{{- end -}}
{{- end -}}
{{- if and $values.providerRequired (not $values.provider) -}}
{{- fail (printf "%s.providerRequired: expected %s.provider beside it, the one that is required" $name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Volumes that would hide a folder of the image or of another volume, and folders that are the node's own. */}}
{{- define "heartwood.pathChecks" -}}
{{- $taken := list "/app" "/bin" "/dev" "/etc" "/lib" "/lib64" "/proc" "/sbin" "/sys" "/tmp" "/usr" "/host" "/var/lib/heartwood/repository" "/var/lib/heartwood/pruner" -}}
{{- range $field, $path := dict "inputs.mountPath" .Values.inputs.mountPath "server.engineCache.mountPath" .Values.server.engineCache.mountPath -}}
{{- range $taken -}}
{{- if or (eq $path .) (hasPrefix (printf "%s/" .) $path) (hasPrefix (printf "%s/" $path) .) -}}
{{- fail (printf "%s: expected a folder beside %s, which is the container's own, got %s" $field . $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $host := .Values.repository.hostPath -}}
{{- if and (eq .Values.repository.type "hostPath") (or (eq $host "/var/lib") (regexMatch "^/(bin|boot|dev|etc|lib|lib64|proc|run|sbin|sys|usr)/|^/var/(run|log|lib/(kubelet|rancher|containerd|docker|etcd))(/|$)" $host)) -}}
{{- fail (printf "repository.hostPath: expected a folder of its own, such as /var/lib/heartwood/repository, got %s, which is the node's" $host) -}}
{{- end -}}
{{- end -}}
