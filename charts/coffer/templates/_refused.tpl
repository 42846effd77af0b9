{{/*
Values that would do harm, or contradict each other. Each ends the installation with one sentence that says what is wrong
and what to do. Unknown values and wrong types are found before this, by values.schema.json.
*/}}
{{- define "coffer.refuse" -}}
{{- $v := .Values -}}
{{- $s := include "coffer.settled" . | fromJson -}}
{{- $sub := index $v "secrets-store-csi-driver" | default dict -}}

{{- /* Whose cluster is it? An object that nobody owns by Helm came by kubectl, or from an operator. */ -}}
{{- $driver := lookup "storage.k8s.io/v1" "CSIDriver" "" "secrets-store.csi.k8s.io" -}}
{{- if $driver -}}
  {{- $by := dig "metadata" "annotations" "meta.helm.sh/release-name" "" $driver -}}
  {{- $in := dig "metadata" "annotations" "meta.helm.sh/release-namespace" "" $driver -}}
  {{- if and $by (or (ne $by .Release.Name) (ne $in .Release.Namespace)) -}}
    {{- fail (printf "The release %s in the namespace %s already gives this cluster the CSI driver secrets-store.csi.k8s.io, and a cluster can have one only. To change it, run `helm upgrade %s … --namespace %s`; to replace it, read docs/migration.md." $by $in $by $in) -}}
  {{- else if not (or $by $v.takeOver) -}}
    {{- fail "This cluster has a CSIDriver object secrets-store.csi.k8s.io that no Helm release owns, so another driver of this name is installed, and a cluster can have one only. Remove that driver first; docs/migration.md says how, with pods running." -}}
  {{- end -}}
{{- end -}}

{{- if eq (toJson $sub.install) "false" -}}
  {{- fail "secrets-store-csi-driver.install is false, but Coffer is the driver: it takes the place of one that was installed apart. Remove that one (docs/migration.md) and leave this value out." -}}
{{- end -}}
{{- range $path := list "linux.enabled" "secrets-store-csi-driver.linux.enabled" -}}
  {{- if eq (include "coffer.at" (dict "values" $v "path" $path)) (dict "value" false | toJson) -}}
    {{- fail (printf "%s is false, but Coffer runs on Linux nodes only, so nothing would be installed. Leave it out; to keep it from some nodes, use linux.nodeSelector or linux.affinity." $path) -}}
  {{- end -}}
{{- end -}}
{{- range $path := list "automountServiceAccountToken" "secrets-store-csi-driver.automountServiceAccountToken" -}}
  {{- if eq (include "coffer.at" (dict "values" $v "path" $path)) (dict "value" false | toJson) -}}
    {{- fail (printf "%s is false, but Coffer cannot read a class without the token of its service account. Leave it out." $path) -}}
  {{- end -}}
{{- end -}}

{{- /* Images of other programs. The public ones are in copies of the charts' defaults; another one is meant. */ -}}
{{- range $path := list "linux.image" "secrets-store-csi-driver.linux.image" "secrets-store-csi-driver.linux.registrarImage" "secrets-store-csi-driver.linux.livenessProbeImage" "secrets-store-csi-driver.linux.crds.image" -}}
  {{- $image := (include "coffer.at" (dict "values" $v "path" $path) | fromJson).value | default dict -}}
  {{- $repository := $image.repository | default "" -}}
  {{- if and $repository (not (hasPrefix "mcr.microsoft.com/" $repository)) (not (hasPrefix "registry.k8s.io/" $repository)) (not (hasPrefix "k8s.gcr.io/" $repository)) -}}
    {{- fail (printf "%s.repository is %s, which is the image of a program that Coffer replaces. Give Coffer's own with image.repository and image.tag, and leave this value out." $path $repository) -}}
  {{- end -}}
{{- end -}}

{{- if dig "enableMonitoring" false ($v.arc | default dict) -}}
  {{- fail "arc.enableMonitoring is true, but Coffer sends nothing to Microsoft. To monitor it yourself, set podMonitor.enabled or serviceMonitor.enabled, and prometheusRule.enabled." -}}
{{- end -}}

{{- if $v.linux.hostNetwork | and $v.networkPolicy.enabled -}}
  {{- fail "networkPolicy.enabled has no effect on a pod on the node's network. Set one of networkPolicy.enabled and linux.hostNetwork to false." -}}
{{- end -}}
{{- if eq $s.metricsPort $s.healthPort -}}
  {{- fail (printf "linux.metricsAddr and livenessProbe.port both say %s. Choose another port for one of them." $s.healthPort) -}}
{{- end -}}
{{- $scraped := or $v.podMonitor.enabled $v.serviceMonitor.enabled -}}
{{- if and $v.podMonitor.enabled $v.serviceMonitor.enabled -}}
  {{- fail "podMonitor.enabled and serviceMonitor.enabled are both true, so everything would be scraped twice. Set one of them to false." -}}
{{- end -}}
{{- if and $scraped (not $s.metricsPort) -}}
  {{- fail "linux.metricsAddr is \"0\", so no metrics are served, but podMonitor.enabled or serviceMonitor.enabled is true. Give an address such as \":8095\"." -}}
{{- end -}}
{{- if and $v.priorityClass.create $s.priorityClassName -}}
  {{- fail (printf "priorityClass.create is true, but linux.priorityClassName names another one, %s. Set one of them." $s.priorityClassName) -}}
{{- end -}}
{{- if and $v.serviceAccount.name $s.rbac -}}
  {{- fail (printf "serviceAccount.name is %s, but rbac.install is true and would make a service account. Set rbac.install to false where %s and its rights are made elsewhere." $v.serviceAccount.name $v.serviceAccount.name) -}}
{{- end -}}
{{- range $key := list "app.kubernetes.io/name" "app.kubernetes.io/instance" -}}
  {{- if or (hasKey $s.podLabels $key) (hasKey $s.commonLabels $key) -}}
    {{- fail (printf "The label %s says which pods belong to the DaemonSet, so linux.podLabels and commonLabels cannot set it." $key) -}}
  {{- end -}}
{{- end -}}
{{- range $name := list "config.yaml" "proxy-ca.pem" -}}
  {{- if hasKey $v.files $name -}}
    {{- fail (printf "files.%s is a name that the chart uses itself. Choose another one." $name) -}}
  {{- end -}}
{{- end -}}
{{- $synced := dig "syncSecrets" "enabled" $s.sync $v.config -}}
{{- if ne (toJson $synced) (toJson $s.sync) -}}
  {{- fail (printf "config.syncSecrets.enabled is %s, but syncSecret.enabled, which gives the rights for it, is %s. Set syncSecret.enabled alone." (toJson $synced) (toJson $s.sync)) -}}
{{- end -}}
{{- if dig "cache" "" $v.config -}}
  {{- fail "config.cache would hide the compiled plugin of the image. To keep other plugins compiled, set pluginCache.onNode, and leave config.cache out." -}}
{{- end -}}
{{- if and (ne (dig "egress" "proxy" "environment" $v.config | toJson) (toJson "environment")) $s.proxied -}}
  {{- fail "config.egress.proxy and the values of the proxy (proxy.*, Azure.proxySettings.*) contradict each other. Set one of them." -}}
{{- end -}}
{{- end -}}
