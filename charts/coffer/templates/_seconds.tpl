{{/* A duration as Go writes it, in seconds: 1h30m is 5400. */}}
{{- define "coffer.seconds" -}}
{{- $units := dict "ns" 0.000000001 "us" 0.000001 "µs" 0.000001 "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 -}}
{{- $sum := 0.0 -}}
{{- range $part := regexFindAll "[0-9.]+(ns|us|µs|ms|s|m|h)" . -1 -}}
  {{- $number := regexFind "[0-9.]+" $part -}}
  {{- $sum = addf $sum (mulf (float64 $number) (get $units (trimPrefix $number $part))) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}
