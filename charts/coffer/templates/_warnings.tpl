{{/*
Values that are understood and mean nothing here: one line each, for the notes after the installation. The same lines are
an annotation of the ConfigMap, because Flux and Argo CD show no notes.

Defaults of the charts that values files are copied from are silent.
*/}}
{{- define "coffer.warnings" -}}
{{- $v := .Values -}}
{{- $s := include "coffer.settled" . | fromJson -}}
{{- $sub := "secrets-store-csi-driver" -}}
{{- $lines := list -}}

{{- range $path := list "windows.enabled" (printf "%s.windows.enabled" $sub) -}}
  {{- if eq (include "coffer.at" (dict "values" $v "path" $path)) (dict "value" true | toJson) -}}
    {{- $lines = append $lines (printf "%s: Coffer does not run on Windows nodes; pods there get no volume from it." $path) -}}
  {{- end -}}
{{- end -}}

{{- $requests := dict "cpu" "10m" "memory" "20Mi" -}}
{{- $small := dict "limits" (dict "cpu" "100m" "memory" "100Mi") "requests" $requests -}}
{{- $provider := dict "cpu" "50m" "memory" "100Mi" -}}
{{- $elsewhere := "there is one container, and its resources are `resources`" -}}
{{- $ownImage := "Coffer's image is set by `image`" -}}
{{- $noSockets := "providers are plugins in the driver, so there is no folder of sockets" -}}
{{- $noJobs := "the CustomResourceDefinitions are part of the release, so there are no jobs" -}}
{{- range $row := list
      (list "linux.resources" $elsewhere (dict "requests" $provider "limits" $provider))
      (list (printf "%s.linux.driver.resources" $sub) $elsewhere (dict "limits" (dict "cpu" "200m" "memory" "200Mi") "requests" (dict "cpu" "50m" "memory" "100Mi")))
      (list (printf "%s.linux.registrar.resources" $sub) $elsewhere $small)
      (list (printf "%s.linux.livenessProbe.resources" $sub) $elsewhere $small)
      (list "linux.image.tag" $ownImage "v1.8.2")
      (list (printf "%s.linux.image.tag" $sub) $ownImage "v1.5.6" "v1.6.0")
      (list "linux.image.pullPolicy" "Coffer's is `image.pullPolicy`" "IfNotPresent")
      (list "linux.healthzPort" "health is served at `livenessProbe.port`" 8989 "8989")
      (list "linux.healthzPath" "health is served at /healthz and /readyz" "/healthz")
      (list "linux.healthzTimeout" "no other process is asked for the health" "5s")
      (list "linux.providersDir" $noSockets "/var/run/secrets-store-csi-providers" "/etc/kubernetes/secrets-store-csi-providers")
      (list (printf "%s.linux.providersDir" $sub) $noSockets "/var/run/secrets-store-csi-providers" "/etc/kubernetes/secrets-store-csi-providers")
      (list (printf "%s.linux.additionalProvidersDirs" $sub) $noSockets (list) (list "/etc/kubernetes/secrets-store-csi-providers"))
      (list "metricsAddr" "metrics of driver and provider are served at `linux.metricsAddr`" "8898" 8898)
      (list (printf "%s.maxCallRecvMsgSize" $sub) "a volume's size is limited by `config.providers.azure.limits`" 4194304)
      (list (printf "%s.providerHealthCheck" $sub) "a plugin has no process that could be asked" false)
      (list (printf "%s.livenessProbe.logLevel" $sub) "there is no sidecar" 2)
      (list "rbac.pspEnabled" "PodSecurityPolicies ended with Kubernetes 1.25; label the namespace `pod-security.kubernetes.io/enforce: privileged`" false)
      (list (printf "%s.rbac.pspEnabled" $sub) "PodSecurityPolicies ended with Kubernetes 1.25" false)
      (list (printf "%s.fullnameOverride" $sub) "names come from `fullnameOverride`" "" "secrets-store-csi-driver")
      (list (printf "%s.nameOverride" $sub) "names come from `nameOverride`" "")
      (list (printf "%s.linux.crds.annotations" $sub) $noJobs dict)
      (list (printf "%s.linux.crds.podLabels" $sub) $noJobs dict)
      (list (printf "%s.linux.crds.resources" $sub) $noJobs dict) -}}
  {{- $at := include "coffer.at" (dict "values" $v "path" (first $row)) | fromJson -}}
  {{- $silent := list -}}
  {{- range slice $row 2 -}}{{- $silent = append $silent (toJson .) -}}{{- end -}}
  {{- if and (hasKey $at "value") (not (has (toJson $at.value) $silent)) -}}
    {{- $lines = append $lines (printf "%s has no effect: %s." (first $row) (index $row 1)) -}}
  {{- end -}}
{{- end -}}

{{- $arc := (include "coffer.at" (dict "values" $v "path" "Azure.proxySettings") | fromJson).value | default dict -}}
{{- if and (not $arc.isProxyEnabled) (or $arc.httpProxy $arc.httpsProxy $arc.proxyCert) -}}
  {{- $lines = append $lines "Azure.proxySettings has no effect while its isProxyEnabled is false." -}}
{{- end -}}
{{- if and (ne $s.rotationPollInterval "2m") (not $s.enableSecretRotation) -}}
  {{- $lines = append $lines "rotationPollInterval has no effect while enableSecretRotation is false." -}}
{{- end -}}
{{- if and (dig "egress" "proxy" "environment" $v.config | toJson | ne (toJson "environment")) (not $s.proxied) | and (kindIs "map" (dig "egress" "proxy" "" $v.config)) -}}
  {{- $lines = append $lines "config.egress.proxy stands in a ConfigMap; a URL with a password belongs into proxy.http and proxy.https, which are kept in a Secret." -}}
{{- end -}}
{{- join "\n" $lines -}}
{{- end -}}
