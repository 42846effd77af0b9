{{/*
How values of several charts are looked at.

A value can stand at several places, for example `linux.kubeletRootDir` and
`secrets-store-csi-driver.linux.kubeletRootDir`. Values files are often copies of a chart's whole defaults, so a value
that is a default of one of the charts counts as not said.
*/}}

{{/* {"value": …} of a path such as `linux.image.tag`, or {} where nothing stands there. Arguments: values, path. */}}
{{- define "coffer.at" -}}
{{- $here := .values -}}
{{- range splitList "." .path -}}
  {{- if and (kindIs "map" $here) (hasKey $here .) -}}
    {{- $here = get $here . -}}
  {{- else -}}
    {{- $here = index (dict "none" nil) "none" -}}
  {{- end -}}
{{- end -}}
{{- if kindIs "invalid" $here -}}{}{{- else -}}{{ dict "value" $here | toJson }}{{- end -}}
{{- end -}}

{{/* {"value": …}: what one of the paths says, else the first default. Paths that say different things are refused.
     Arguments: values, paths, defaults. */}}
{{- define "coffer.one" -}}
{{- $values := .values -}}
{{- $defaults := list -}}
{{- range .defaults -}}{{- $defaults = append $defaults (toJson .) -}}{{- end -}}
{{- $said := dict -}}
{{- range .paths -}}
  {{- $path := . -}}
  {{- $at := include "coffer.at" (dict "values" $values "path" $path) | fromJson -}}
  {{- if and (hasKey $at "value") (not (has (toJson $at.value) $defaults)) -}}
    {{- if and (hasKey $said "path") (ne (toJson $at.value) (toJson $said.value)) -}}
      {{- fail (printf "%s is %s, but %s is %s, and there is one driver for both. Set one of them, or both to the same." $said.path (toJson $said.value) $path (toJson $at.value)) -}}
    {{- end -}}
    {{- $_ := set $said "path" $path -}}
    {{- $_ := set $said "value" $at.value -}}
  {{- end -}}
{{- end -}}
{{- if hasKey $said "path" -}}{{ dict "value" $said.value | toJson }}{{- else -}}{{ dict "value" (first .defaults) | toJson }}{{- end -}}
{{- end -}}

{{/* One map of several; a key with two values is refused. Arguments: values, paths. */}}
{{- define "coffer.merged" -}}
{{- $values := .values -}}
{{- $all := dict -}}
{{- $from := dict -}}
{{- range $path := .paths -}}
  {{- $at := include "coffer.at" (dict "values" $values "path" $path) | fromJson -}}
  {{- range $key, $value := (get $at "value" | default dict) -}}
    {{- if and (hasKey $all $key) (ne (get $all $key | toJson) (toJson $value)) -}}
      {{- fail (printf "%s.%s and %s.%s are different, and there is one driver for both. Set one of them, or both to the same." (get $from $key) $key $path $key) -}}
    {{- end -}}
    {{- $_ := set $all $key $value -}}
    {{- $_ := set $from $key $path -}}
  {{- end -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/* One list of several, in a map because lists cannot be handed over: {"value": […]}. Arguments: values, paths. */}}
{{- define "coffer.joined" -}}
{{- $values := .values -}}
{{- $all := list -}}
{{- range $path := .paths -}}
  {{- $at := include "coffer.at" (dict "values" $values "path" $path) | fromJson -}}
  {{- $all = concat $all (get $at "value" | default list) -}}
{{- end -}}
{{- dict "value" (uniq $all) | toJson -}}
{{- end -}}
