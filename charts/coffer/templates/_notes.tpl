{{/* What to do next, and what to know. Apart from NOTES.txt, so that `make chart` can render it without a cluster. */}}
{{- define "coffer.notes" -}}
{{- $settled := include "coffer.settled" . | fromJson -}}
Coffer {{ .Chart.AppVersion }} is this cluster's CSI driver secrets-store.csi.k8s.io.

1. Wait until it runs on every Linux node:

     kubectl --namespace {{ .Release.Namespace }} rollout status daemonset/{{ include "coffer.fullname" . }}
{{- if hasPrefix "localhost/" .Values.image.repository }}

   The image {{ include "coffer.image" . | trim }} is pulled from nowhere: every node must have it already.
{{- end }}

2. Create a SecretProviderClass with `provider: azure`, and a pod with a volume that names it.

3. A pod that does not start says why:

     kubectl describe pod NAME

   What the driver itself lacks, its readiness says, on each node:

     kubectl --namespace {{ .Release.Namespace }} describe pod --selector app.kubernetes.io/instance={{ .Release.Name }}
{{ if $settled.enableSecretRotation }}
Secrets are looked at again every {{ $settled.rotationPollInterval }}.
{{- else }}
Rotation is off: mounted secrets stay as they are. To turn it on: --set enableSecretRotation=true
{{- end }}
{{- if $settled.sync }}
Sync to Kubernetes Secrets is on, so the driver may read and write Secrets in every namespace.
{{- end }}
{{- with include "coffer.warnings" . }}

What was set and has no effect:
{{ range splitList "\n" . }}
  * {{ . }}
{{- end }}
{{- end }}
{{- if $settled.crds }}
{{- range $name := list "secretproviderclasses.secrets-store.csi.x-k8s.io" "secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io" }}
{{- with include "coffer.foreign" (dict "name" $name "root" $) | trim }}

The CustomResourceDefinition {{ $name }} belongs to {{ . }}, so it was left as it is,
and upgrades of this release do not renew it. To hand it over:

     kubectl label --overwrite crd {{ $name }} app.kubernetes.io/managed-by=Helm
     kubectl annotate --overwrite crd {{ $name }} meta.helm.sh/release-name={{ $.Release.Name }} meta.helm.sh/release-namespace={{ $.Release.Namespace }}
     helm upgrade {{ $.Release.Name }} … --namespace {{ $.Release.Namespace }} --reset-then-reuse-values
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
