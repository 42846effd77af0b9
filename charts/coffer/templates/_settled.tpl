{{/*
What holds in the end, as one JSON object: the values of this chart, with those of the Azure provider's chart, of its
dependency and of the Arc extension laid into it. Templates of objects read this, and not the values, wherever a value has
more than one place.
*/}}
{{- define "coffer.settled" -}}
{{- $v := .Values -}}
{{- $sub := "secrets-store-csi-driver" -}}
{{- $every := dict "operator" "Exists" -}}
{{- $notVirtual := dict "nodeAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" (list
      (dict "matchExpressions" (list (dict "key" "type" "operator" "NotIn" "values" (list "virtual-kubelet"))))))) -}}
{{- $rolling := dict "type" "RollingUpdate" "rollingUpdate" (dict "maxUnavailable" 1) -}}
{{- $audience := dict "audience" "api://AzureADTokenExchange" -}}

{{- $s := dict -}}
{{- range $name, $defaults := dict
      "enableSecretRotation" (list false)
      "rotationPollInterval" (list "2m" "")
      "syncSecret.enabled" (list false)
      "tokenRequests" (list (list $audience) (list))
      "logFormatJSON" (list false)
      "livenessProbe.port" (list 9808)
      "rbac.install" (list true)
      "linux.kubeletRootDir" (list "/var/lib/kubelet")
      "linux.metricsAddr" (list ":8095")
      "linux.priorityClassName" (list "")
      "linux.tolerations" (list (list $every))
      "linux.affinity" (list $notVirtual)
      "linux.updateStrategy" (list $rolling)
      "linux.dnsPolicy" (list "") -}}
  {{- $paths := list $name (printf "%s.%s" $sub $name) -}}
  {{- $_ := set $s (last (splitList "." $name)) (include "coffer.one" (dict "values" $v "paths" $paths "defaults" $defaults) | fromJson).value -}}
{{- end -}}
{{- /* `enabled` and `install` would be words without a subject. */ -}}
{{- $_ := set $s "sync" $s.enabled -}}
{{- $_ := set $s "rbac" $s.install -}}
{{- $_ := set $s "crds" (include "coffer.one" (dict "values" $v "paths" (list "crds.enabled" (printf "%s.linux.crds.enabled" $sub)) "defaults" (list true)) | fromJson).value -}}
{{- /* A folder with a slash at its end is the same one. */ -}}
{{- $_ := set $s "kubeletRootDir" (trimSuffix "/" $s.kubeletRootDir) -}}

{{- range $name := list "commonLabels" "linux.nodeSelector" "linux.podLabels" "linux.podAnnotations" "linux.daemonsetAnnotations" -}}
  {{- $paths := list $name (printf "%s.%s" $sub $name) -}}
  {{- $_ := set $s (last (splitList "." $name)) (include "coffer.merged" (dict "values" $v "paths" $paths) | fromJson) -}}
{{- end -}}

{{- range $name := list "imagePullSecrets" "linux.env" "linux.volumes" "linux.volumeMounts" -}}
  {{- $paths := list $name (printf "%s.%s" $sub $name) -}}
  {{- $_ := set $s (last (splitList "." $name)) (include "coffer.joined" (dict "values" $v "paths" $paths) | fromJson).value -}}
{{- end -}}

{{- /* Two programs logged as much as each was told; one logs as much as the louder. */ -}}
{{- $louder := int $v.logVerbosity -}}
{{- with (include "coffer.at" (dict "values" $v "path" (printf "%s.logVerbosity" $sub)) | fromJson).value -}}
  {{- $louder = max $louder (int .) -}}
{{- end -}}
{{- $_ := set $s "logVerbosity" $louder -}}

{{- /* Arc's proxy counts only while it is enabled, as in Arc's chart. */ -}}
{{- $proxy := dict -}}
{{- $arc := dict -}}
{{- with (include "coffer.at" (dict "values" $v "path" "Azure.proxySettings") | fromJson).value -}}
  {{- if .isProxyEnabled -}}{{- $arc = . -}}{{- end -}}
{{- end -}}
{{- range $ours, $theirs := dict "http" "httpProxy" "https" "httpsProxy" "noProxy" "noProxy" "ca" "proxyCert" -}}
  {{- $both := dict "proxy" $v.proxy "Azure" (dict "proxySettings" $arc) -}}
  {{- $paths := list (printf "proxy.%s" $ours) (printf "Azure.proxySettings.%s" $theirs) -}}
  {{- $_ := set $proxy $ours (include "coffer.one" (dict "values" $both "paths" $paths "defaults" (list "")) | fromJson).value -}}
{{- end -}}
{{- $proxied := or $proxy.http $proxy.https -}}
{{- if $proxied -}}
  {{- $direct := list -}}
  {{- with $proxy.noProxy -}}{{- $direct = splitList "," . -}}{{- end -}}
  {{- $_ := set $proxy "noProxy" (append (without $direct "169.254.169.254") "169.254.169.254" | join ",") -}}
{{- end -}}
{{- $_ := set $s "proxy" $proxy -}}
{{- $_ := set $s "proxied" (not (not $proxied)) -}}

{{- /* A probe and a container's port need the number of `HOST:PORT`. */ -}}
{{- $_ := set $s "metricsPort" (ternary "" (last (splitList ":" (toString $s.metricsAddr))) (eq (toString $s.metricsAddr) "0")) -}}
{{- $_ := set $s "healthPort" (toString $s.port) -}}
{{- toJson (omit $s "enabled" "install" "port") -}}
{{- end -}}

{{/* The configuration document: what `config` says, and what other values add to it. */}}
{{- define "coffer.configuration" -}}
{{- $s := include "coffer.settled" . | fromJson -}}
{{- $config := deepCopy .Values.config -}}

{{- $added := dict -}}
{{- if not .Values.constructPEMChain -}}{{- $_ := set $added "constructPEMChain" "false" -}}{{- end -}}
{{- if .Values.writeCertAndKeyInSeparateFiles -}}{{- $_ := set $added "writeCertAndKeyInSeparateFiles" "true" -}}{{- end -}}
{{- if $added -}}
  {{- $said := dig "providers" "azure" "parameters" dict $config -}}
  {{- range $name, $value := $added -}}
    {{- if and (hasKey $said $name) (ne (get $said $name | toString) $value) -}}
      {{- fail (printf "config.providers.azure.parameters.%s is %s, but %s is %s. Set one of them, or both to the same." $name (get $said $name | toJson) $name $value) -}}
    {{- end -}}
  {{- end -}}
  {{- $config = mergeOverwrite $config (dict "providers" (dict "azure" (dict "parameters" $added))) -}}
{{- end -}}

{{- with .Values.linux.customUserAgent -}}
  {{- $said := dig "providers" "azure" "userAgentSuffix" . $config -}}
  {{- if ne $said . -}}
    {{- fail (printf "config.providers.azure.userAgentSuffix is %s, but linux.customUserAgent is %s. Set one of them, or both to the same." (toJson $said) (toJson .)) -}}
  {{- end -}}
  {{- $config = mergeOverwrite $config (dict "providers" (dict "azure" (dict "userAgentSuffix" .))) -}}
{{- end -}}

{{- if $s.sync -}}
  {{- $config = mergeOverwrite $config (dict "syncSecrets" (dict "enabled" true)) -}}
{{- end -}}

{{- if $s.proxy.ca -}}
  {{- $authorities := dig "egress" "ca" list $config -}}
  {{- $config = mergeOverwrite $config (dict "egress" (dict "ca" (append $authorities "proxy-ca.pem"))) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}
