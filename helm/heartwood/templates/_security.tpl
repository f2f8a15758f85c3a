{{/* TLS and tokens of a service; all take (list . "server"). */}}

{{- define "heartwood.securityArgs" -}}
{{- $values := index (index . 0).Values (index . 1) -}}
{{- if $values.tls.secretName }}
- --tls-cert=/etc/heartwood/tls/tls.crt
- --tls-key=/etc/heartwood/tls/tls.key
{{- if $values.tls.clientCaSecretName }}
- --tls-client-ca=/etc/heartwood/client-ca/{{ $values.tls.clientCaKey }}
{{- end }}
{{- end }}
{{- if $values.auth.secretName }}
- --auth-token-file=/etc/heartwood/auth/{{ $values.auth.key }}
{{- end }}
{{- end -}}

{{/* Whole folders, not single files of them: a Secret that is renewed is taken up without a restart. */}}
{{- define "heartwood.securityMounts" -}}
{{- $values := index (index . 0).Values (index . 1) -}}
{{- if $values.tls.secretName }}
- { name: tls, mountPath: /etc/heartwood/tls, readOnly: true }
{{- if $values.tls.clientCaSecretName }}
- { name: client-ca, mountPath: /etc/heartwood/client-ca, readOnly: true }
- { name: probe, mountPath: /etc/heartwood/probe, readOnly: true }
{{- end }}
{{- end }}
{{- if $values.auth.secretName }}
- { name: auth, mountPath: /etc/heartwood/auth, readOnly: true }
{{- end }}
{{- end -}}

{{- define "heartwood.securityVolumes" -}}
{{- $values := index (index . 0).Values (index . 1) -}}
{{- if $values.tls.secretName }}
- name: tls
  secret: { secretName: {{ $values.tls.secretName }}, defaultMode: 0440 }
{{- if $values.tls.clientCaSecretName }}
- name: client-ca
  secret: { secretName: {{ $values.tls.clientCaSecretName }}, defaultMode: 0440 }
- name: probe
  secret: { secretName: {{ $values.tls.probeSecretName }}, defaultMode: 0440 }
{{- end }}
{{- end }}
{{- if $values.auth.secretName }}
- name: auth
  secret: { secretName: {{ $values.auth.secretName }}, defaultMode: 0440 }
{{- end }}
{{- end -}}

{{/* Flags of `heartwood health` where the service speaks TLS. Its certificate names the Service, and is for clients to look at. */}}
{{- define "heartwood.healthTls" -}}
{{- $values := index (index . 0).Values (index . 1) -}}
{{- if $values.tls.secretName }}
- --no-tls-verify
{{- if $values.tls.clientCaSecretName }}
- --tls-cert=/etc/heartwood/probe/tls.crt
- --tls-key=/etc/heartwood/probe/tls.key
{{- end }}
{{- end }}
{{- end -}}
